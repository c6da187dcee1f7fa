<?php
// One request of a web page: enqueue a statement, answer 200 only when the server has it.
require __DIR__ . '/client.php';

[$cmd, $reply] = ask($_SERVER['ESERVER_ADDRESS'], 8001, json_encode([
    'sql' => 'insert into t(num) values (%d)',
]));
if ($cmd !== 8001 || $reply !== ['msg' => 'success']) {
    http_response_code(500);
    error_log('enqueue: ' . json_encode([$cmd, $reply]));
}
echo json_encode($reply);
