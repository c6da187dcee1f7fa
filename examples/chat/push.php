<?php
// For classic.html: pushes what somebody says into a room. An application checks its user here, and
// keeps what was said in its database.

require 'server.php';

$content = json_encode(['name' => parameter('name'), 'text' => parameter('text')]);
header('Content-Type: text/javascript');
echo ask_eserver('GET', '/push?' . http_build_query([
    'cname' => parameter('cname'),
    'content' => $content,
    'cb' => parameter('cb'),
]));
