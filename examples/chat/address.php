<?php
// For classic.html: where browsers reach eserver.

require 'server.php';

header('Content-Type: text/javascript');
echo 'var PUSH_URL = ' . json_encode(public_url()) . ";\n";
