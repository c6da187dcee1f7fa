<?php
// For classic.html: has a room signed, as pages of icomet do. An application checks its user here.

require 'server.php';

header('Content-Type: text/javascript');
echo ask_eserver('GET', '/sign?' . http_build_query([
    'cname' => parameter('cname'),
    'cb' => parameter('cb'),
]));
