<?php
// Who is in a room.

require 'server.php';

header('Content-Type: application/json');
header('Cache-Control: no-store');
echo ask_eserver('GET', '/v1/channels/' . rawurlencode('chat/' . parameter('room')) . '/members');
