<?php
// The client that everybody has: one connection, one frame there, one frame back.
function ask($address, $cmd, $body)
{
    [$host, $port] = explode(':', $address);
    $s = socket_create(AF_INET, SOCK_STREAM, SOL_TCP);
    if (!@socket_connect($s, $host, (int) $port)) {
        return [null, 'no connection: ' . socket_strerror(socket_last_error($s))];
    }
    $len = strlen($body);
    $frame = pack("nna{$len}", $cmd, $len, $body);
    socket_write($s, $frame, strlen($frame));
    $got = socket_recv($s, $head, 4, 0);
    if ($got !== 4) {
        socket_close($s);
        return [null, 'no reply'];
    }
    $a = unpack('ncmd/nlen', $head);
    $json = '';
    if ($a['len'] > 0) {
        socket_recv($s, $json, $a['len'], 0);
    }
    socket_close($s);
    return [$a['cmd'], json_decode($json, true)];
}
