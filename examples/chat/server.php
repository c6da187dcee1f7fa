<?php
// What the other files have in common: how PHP reaches eserver, and browsers do.

/** Asks eserver's admin port, which only this machine can reach; what it answers, or null. */
function ask_eserver($method, $path, $body = '') {
    $admin = getenv('ESERVER_ADMIN') ?: 'http://127.0.0.1:8000';
    $options = ['method' => $method, 'content' => $body, 'ignore_errors' => true, 'timeout' => 5];
    $answer = @file_get_contents($admin . $path, false, stream_context_create(['http' => $options]));
    if ($answer === false) {
        http_response_code(502);
        exit("eserver cannot be reached at $admin\n");
    }
    return $answer;
}

/** Where browsers reach eserver: the same host as this page, unless it is said. */
function public_url() {
    $host = explode(':', $_SERVER['HTTP_HOST'])[0];
    return getenv('ESERVER_PUBLIC') ?: "http://$host:8100";
}

/** A parameter of the request, as text. */
function parameter($name) {
    $value = $_REQUEST[$name] ?? '';
    return is_string($value) ? trim($value) : '';
}
