<?php
// What a request does that writes one row and does not wait for the next: connects, inserts,
// disconnects; again and again, for SECONDS. Prints how many rows, and in how many seconds.
//
// php insert.php DSN USER PASSWORD SECONDS

[, $dsn, $user, $password, $seconds] = $argv;
$options = [
    PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
    PDO::ATTR_TIMEOUT => 60,
    // One round trip instead of two, as a statement that runs once is sent best.
    PDO::ATTR_EMULATE_PREPARES => true,
];
echo "ready\n";
if (fgets(STDIN) === false) {
    exit(1); // nobody waits for it any more
}
$begin = hrtime(true);
$rows = 0;
do {
    $db = new PDO($dsn, $user, $password, $options);
    $insert = $db->prepare('insert into t(num, name) values (?, ?)');
    $insert->execute([++$rows, "name $rows"]);
    $insert = null;
    $db = null;
    $elapsed = (hrtime(true) - $begin) / 1e9;
} while ($elapsed < $seconds);
echo "$rows $elapsed\n";
