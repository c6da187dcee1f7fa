<?php
// A straightforward consumer: takes messages from a Redis list and inserts them, one by one or
// so many in each transaction, until the list is empty or SECONDS are over. Prints how many rows,
// and in how many seconds.
//
// php consume.php DSN USER PASSWORD SECONDS REDIS-PORT BATCH

[, $dsn, $user, $password, $seconds, $port, $batch] = $argv;
$redis = new Redis();
$redis->connect('127.0.0.1', (int) $port);
$db = new PDO($dsn, $user, $password, [
    PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
    PDO::ATTR_TIMEOUT => 60,
    PDO::ATTR_EMULATE_PREPARES => false,
]);
$insert = $db->prepare('insert into t(num, name) values (?, ?)');
echo "ready\n";
if (fgets(STDIN) === false) {
    exit(1); // nobody waits for it any more
}
$begin = hrtime(true);
$rows = 0;
do {
    if ($batch == 1) {
        $message = $redis->lPop('queue');
        $messages = $message === false ? [] : [$message];
    } else {
        $messages = $redis->rawCommand('LPOP', 'queue', $batch) ?: [];
        $db->beginTransaction();
    }
    foreach ($messages as $message) {
        $message = json_decode($message, true);
        $insert->execute([$message['num'], $message['name']]);
        $rows++;
    }
    if ($batch > 1) {
        $db->commit();
    }
    $elapsed = (hrtime(true) - $begin) / 1e9;
} while ($messages && $elapsed < $seconds);
echo "$rows $elapsed\n";
