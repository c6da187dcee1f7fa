<?php
// Signs a token for a guest of a room. A real application knows its user, and checks here whether
// that one may be in the room.

require 'server.php';

$order = [
    'channels' => ['chat/' . parameter('room')],
    'publish' => true,
    'subject' => parameter('name'),
    'expires_s' => 600,
];
$answer = json_decode(ask_eserver('POST', '/v1/tokens', json_encode($order)), true);
header('Content-Type: application/json');
header('Cache-Control: no-store');
echo json_encode(['url' => public_url(), 'token' => $answer['token'] ?? '']);
