// The client for browsers, against a server that fails on purpose. Run by:
//
//     node --test services/eserver-comet/tests/js/

import {test} from "node:test";
import assert from "node:assert/strict";
import {connect} from "../../src/service/eserver.js";
import {breaking, ending, events, frame, json, refusal, said, serve, silence, until} from "./fake_server.mjs";

const TYPES = ["message", "broadcast", "subscribed", "skipped", "reset", "join", "leave", "closed", "error"];

/** A connection that writes down what it hears. */
function listen(t, url, options, ...channels) {
  const connection = connect({url, retryMsMax: 40, ...options});
  t.after(() => connection.close());
  const heard = [];
  for (const type of TYPES) {
    connection.on(type, ({channel, offset, data, code}) => heard.push([type, channel ?? code, data ?? offset]));
  }
  channels.forEach(channel => connection.subscribe(channel));
  return {connection, heard};
}

test("messages come in order, and what was cut off goes on where it was", async t => {
  const {url, requests} = await serve(t, breaking(said(1, "one"), said(2, {b: [2]})), ending(said(3, "three")), events());
  const {heard, connection} = listen(t, url, {token: "T"}, "a");
  await until(() => requests.length === 3);
  const data = heard.filter(([type]) => type === "message").map(([, , data]) => data);
  assert.deepEqual(data, ["one", {b: [2]}, "three"]);
  assert.deepEqual(requests.map(({cursor}) => cursor), [null, "e:2", "e:3"]);
  assert.ok(requests.every(({path, token, channels}) => path === "/v1/events" && token === "Bearer T" && channels[0] === "a"));
  assert.equal(connection.cursor, "e:3");
});

test("a stream may be cut anywhere", async t => {
  const text = ":\n\n" + frame({type: "subscribed", channel: "a", offset: 0}, "e:0") + said(1, "é😀:\u2028") + said(2, "x").replaceAll("\n", "\r\n");
  const {url} = await serve(t, async response => {
    response.writeHead(200);
    for (const byte of Buffer.from(text)) {
      await new Promise(resolve => response.write(Buffer.of(byte), resolve));
    }
  });
  const {heard} = listen(t, url, {}, "a");
  await until(() => heard.length === 3);
  assert.deepEqual(heard, [["subscribed", "a", 0], ["message", "a", "é😀:\u2028"], ["message", "a", "x"]]);
});

test("what cannot be had is said", async t => {
  const types = ["reset", "skipped", "join", "leave", "broadcast"];
  const {url} = await serve(t, events(...types.map(type => frame({type, channel: "a", offset: 1}))));
  const {heard} = listen(t, url, {}, "a");
  await until(() => heard.length === types.length);
  assert.deepEqual(heard.map(([type]) => type), types);
});

test("several channels share a connection, and one more begins anew from the cursor", async t => {
  const {url, requests} = await serve(t, events(said(4, "x", "a")), events(frame({type: "message", channel: "b", offset: 1, data: 1}, "several")), events());
  const {connection, heard} = listen(t, url, {start: "all"}, "a");
  await until(() => heard.length === 1);
  const leave = connection.subscribe("b");
  connection.subscribe("c");
  await until(() => heard.length === 2);
  leave();
  await until(() => requests.length === 3);
  assert.deepEqual(requests.map(({channels, cursor, start}) => [channels.join(), cursor, start]), [
    ["a", null, "all"], ["a,b,c", "e:4", "all"], ["a,c", "several", "all"],
  ]);
});

test("the cursor of one channel is not used for another", async t => {
  const {url, requests} = await serve(t, events(said(4, "x", "a")), events());
  const connection = connect({url});
  t.after(() => connection.close());
  let count = 0;
  const leave = connection.subscribe("a", () => count++);
  await until(() => count === 1);
  leave();
  connection.subscribe("b");
  await until(() => requests.length === 2);
  assert.deepEqual(requests[1].channels, ["b"]);
  assert.equal(requests[1].cursor, null);
});

test("failures are waited out, longer and longer, and a clean end as the server says", async t => {
  const {url, requests} = await serve(t, refusal(503, "busy"), refusal(429, "channels_full"), refusal(500, "internal"), refusal(408, ""), ending(), events());
  const {heard} = listen(t, url, {}, "a");
  await until(() => requests.length === 6);
  assert.deepEqual(heard.map(([type, code]) => type + code), ["errorbusy", "errorchannels_full", "errorinternal", "error"]);
});

test("goodbye is waited out as long as it says", async t => {
  const {url, requests} = await serve(t, response => {
    events("retry: 300\n\n")(response);
    response.end();
  }, events());
  const start = Date.now();
  listen(t, url, {}, "a");
  await until(() => requests.length === 2);
  assert.ok(Date.now() - start >= 290, `${Date.now() - start} ms`);
});

test("a stream that falls silent is given up", async t => {
  const {url, requests} = await serve(t, events(said(1, "x")), events());
  const {heard} = listen(t, url, {silenceMs: 200}, "a");
  await until(() => requests.length === 2);
  assert.deepEqual(requests.map(({path, cursor}) => path + cursor), ["/v1/eventsnull", "/v1/eventse:1"]);
  assert.deepEqual(heard.map(([type]) => type), ["message", "error"]);
});

test("long polls take over where streams are held back", async t => {
  const message = {type: "message", channel: "a", offset: 1, data: "x"};
  const {url, requests} = await serve(t, silence, json({cursor: "e:0", messages: []}), json({cursor: "e:1", messages: [message]}), silence);
  const {heard, connection} = listen(t, url, {silenceMs: 200}, "a");
  await until(() => requests.length === 4);
  assert.deepEqual(requests.map(({path, cursor}) => path + " " + cursor), ["/v1/events null", "/v1/poll null", "/v1/poll e:0", "/v1/poll e:1"]);
  assert.deepEqual(heard.filter(([type]) => type === "message"), [["message", "a", "x"]]);
  assert.equal(connection.cursor, "e:1");
});

test("a token that is over is asked for again, at once", async t => {
  const over = ending("retry: 60000\n\n", said(1, "x"), frame({type: "error", code: "token_expired"}));
  const {url, requests} = await serve(t, over, refusal(401, "token_invalid"), events());
  let count = 0;
  listen(t, url, {token: async () => `T${++count}`}, "a");
  await until(() => requests.length === 3);
  assert.deepEqual(requests.map(({token}) => token), ["Bearer T1", "Bearer T2", "Bearer T3"]);
  assert.equal(requests[1].cursor, "e:1");
});

test("what would be refused again is not tried again", async t => {
  for (const [status, code] of [[401, "token_expired"], [403, "forbidden"], [400, "too_many_channels"], [404, "http"]]) {
    const {url, requests} = await serve(t, refusal(status, code));
    const {connection, heard} = listen(t, url, {token: "T"}, "a");
    await until(() => connection.state === "closed");
    assert.deepEqual([heard, requests.length], [[["error", code, undefined]], 1]);
    assert.throws(() => connection.subscribe("b"), {code: "closed"});
  }
});

test("a cursor that the server does not know is thrown away", async t => {
  const {url, requests} = await serve(t, refusal(400, "bad_cursor"), events());
  listen(t, url, {cursor: "old"}, "a");
  await until(() => requests.length === 2);
  assert.deepEqual(requests.map(({cursor}) => cursor), ["old", null]);
});

test("a channel that is closed, or refused, is left", async t => {
  const {url, requests} = await serve(t, breaking(
    frame({type: "closed", channel: "a", offset: 1}), frame({type: "error", channel: "b", code: "token"})), ending(frame({type: "closed", channel: "c"})));
  const {connection, heard} = listen(t, url, {}, "a", "b", "c");
  await until(() => requests.length === 2 && connection.state === "idle");
  assert.deepEqual(requests.map(({channels}) => channels.join()), ["a,b,c", "c"]);
  connection.subscribe("a");
  await until(() => requests.length === 3);
  assert.ok(heard.length >= 3);
});

test("closing ends the request, and a listener that fails hurts nobody", async t => {
  t.mock.method(console, "error", () => {});
  const {url, requests} = await serve(t, events(said(1, "x"), said(2, "y")));
  const connection = connect({url});
  const heard = [];
  connection.subscribe("a", () => { throw new Error("mine"); });
  connection.subscribe("a", ({data}) => heard.push(data));
  await until(() => heard.length === 2);
  connection.close();
  await requests[0].ended;
  assert.equal(console.error.mock.callCount(), 2);
  assert.equal(requests.length, 1);
});

/** A class of WebSockets that a test has in hand. */
function sockets() {
  const made = [];
  return [made, class {
    sent = [];
    constructor(url) {
      this.url = new URL(url);
      made.push(this);
    }
    send(text) {
      this.sent.push(JSON.parse(text));
    }
    say(message) {
      this.onmessage({data: JSON.stringify(message)});
    }
    close() {
      this.onclose?.({code: 1006});
    }
  }];
}

test("who publishes gets a WebSocket, and what was not answered is sent again", async t => {
  const {url, requests} = await serve(t, events(said(7, "x")));
  const [made, Socket] = sockets();
  const {connection, heard} = listen(t, url, {WebSocket: Socket, token: "T"}, "a");
  await until(() => heard.length === 1);
  const published = connection.publish("a", {text: 1}, {event: "e"});
  await until(() => made.length === 1);
  const [{url: address}] = made;
  assert.equal(address.protocol + address.pathname, "ws:/v1/socket");
  assert.deepEqual(["channel", "cursor", "token"].map(key => address.searchParams.get(key)), ["a", "e:7", "T"]);
  made[0].onopen();
  const [order] = made[0].sent;
  assert.deepEqual([order.type, order.channel, order.data, order.event], ["publish", "a", {text: 1}, "e"]);
  assert.match(order.idempotency_key, /^[0-9a-z]{20,60}$/);
  made[0].say({type: "message", channel: "a", offset: 8, data: "y", cursor: "e:8"});
  made[0].close();
  await until(() => made.length === 2);
  assert.equal(made[1].url.searchParams.get("cursor"), "e:8");
  made[1].onopen();
  assert.deepEqual(made[1].sent, [order]);
  made[1].say({type: "ok", id: order.id, offset: 9, subscribers: 1});
  assert.deepEqual(await published, {offset: 9, subscribers: 1});
  const refused = connection.publish("b", 1);
  made[1].say({type: "error", id: made[1].sent[1].id, code: "forbidden", message: "no"});
  await assert.rejects(refused, {code: "forbidden"});
  const leave = connection.subscribe("b");
  leave();
  assert.deepEqual(made[1].sent.slice(2).map(({type, channel}) => type + channel), ["subscribeb", "unsubscribeb"]);
  assert.equal(requests.length, 1);
});

test("a silent WebSocket is pinged, and given up", async t => {
  const [made, Socket] = sockets();
  listen(t, "http://127.0.0.1:1", {WebSocket: Socket, transport: "socket", silenceMs: 200}, "a");
  await until(() => made.length === 1);
  made[0].onopen();
  await until(() => made.length === 2);
  assert.equal(made[0].sent[0].type, "ping");
});

test("where no WebSocket gets through, publishing fails and listening goes on", async t => {
  class Refused {
    constructor() {
      throw new Error("not from here");
    }
  }
  for (const WebSocket of [undefined, Refused]) {
    const {url, requests} = await serve(t, events());
    const {connection, heard} = listen(t, url, {WebSocket}, "a");
    await assert.rejects(connection.publish("a", 1), {code: "no_socket"});
    await until(() => requests.length > 0 && connection.state === "open");
    assert.ok(heard.every(([type]) => type === "error"));
  }
});

test("closing ends a WebSocket that is not open yet, and its error is heard", async t => {
  const [made, Socket] = sockets();
  const {connection} = listen(t, "http://127.0.0.1:1", {WebSocket: Socket, transport: "socket"}, "a");
  await until(() => made.length === 1);
  let isClosed = false;
  made[0].close = () => (isClosed = true);
  connection.close();
  await until(() => isClosed);
  made[0].onerror({}); // As npm's `ws` has it; with nobody to hear it, it would end the program.
});

test("a WebSocket that is held back, or fails without an end, is one that does not get through", async t => {
  for (const isSilent of [true, false]) {
    const {url, requests} = await serve(t, events());
    const [made, Socket] = sockets();
    let count = 0;
    const {connection} = listen(t, url, {WebSocket: Socket, silenceMs: 200, token: () => `T${++count}`}, "a");
    const published = connection.publish("a", 1);
    let failed = 0;
    published.catch(() => failed++);
    await until(() => {
      if (!isSilent) made.at(-1)?.onerror?.({});
      return failed;
    });
    await assert.rejects(published, {code: "no_socket"});
    assert.deepEqual(made.map(({url}) => url.searchParams.get("token")), ["T1", "T2", "T3"]);
    await until(() => connection.state === "open");
    assert.equal(requests[0].path, "/v1/events");
  }
});
