<?php
// Usage: php alone.php HOST:PORT. Prints what each call of the old client answers, one per line.
require __DIR__ . '/client.php';

$calls = [
    [8003, ''],
    [8001, json_encode(['sql' => 'insert into t(num) values (%d)'])],
    [8001, json_encode(['sql' => "insert into t(name) values ('李')"])],
    [8003, json_encode([])],
    [8002, ''],
    [8002, json_encode(['anything' => 1])],
    [8002, ''],
    [8001, json_encode(['queue_type' => 'sql', 'i' => 7, 'row' => ['a' => 1]])],
    [8003, json_encode(['queue_type' => 'sql'])],
    [8002, json_encode(['queue_type' => 'sql'])],
    [8002, json_encode(['queue_type' => 'sql'])],
    [8001, json_encode(['queue_type' => 'nosuch'])],
    [9999, ''],
];
foreach ($calls as [$cmd, $body]) {
    echo json_encode(ask($argv[1], $cmd, $body), JSON_UNESCAPED_UNICODE), "\n";
}
