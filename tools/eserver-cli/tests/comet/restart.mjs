// The client as it is served, against the server itself. Lines on stdout say how far it is, so that
// the test can do its part.

import assert from "node:assert/strict";

const [url, admin, client] = process.argv.slice(2);
const {connect} = await import(client);
let count = 0;

/** A token that is soon over, so that it has to be renewed while something is listened to. */
async function token() {
  count++;
  const body = JSON.stringify({channels: ["news"], publish: true, subject: "node", expires_s: 2});
  const answer = await fetch(`${admin}/v1/tokens`, {method: "POST", body});
  return (await answer.json()).token;
}

const heard = [];
let wake = () => {};
const hear = word => {
  heard.push(word);
  wake();
};

/** Waits for a word that has not been waited for before. */
async function next(word) {
  while (!heard.includes(word)) await new Promise(resolve => (wake = resolve));
  heard.splice(0, heard.indexOf(word) + 1);
}

const connection = connect({url, token, retryMsMax: 300});
connection.subscribe("news", ({data}) => hear(data));
connection.on("reset", ({reason}) => hear(reason));
connection.on("subscribed", () => hear("subscribed"));

await next("subscribed");
console.log("ready");
await next("pushed");

// A WebSocket from here on: it hears itself, too.
const first = await connection.publish("news", "published");
assert.equal(first.subscribers, 1);
await next("published");

const before = count;
while (count === before) await new Promise(resolve => setTimeout(resolve, 50));
await connection.publish("news", "renewed");
await next("renewed");
console.log("renewed");

// Nobody has made the channel anew before this client came back.
await next("expired");
const after = await connection.publish("news", "after");
assert.equal(after.offset, 1, "numbers begin anew");
await next("after");
await assert.rejects(connection.publish("other", 1), {code: "forbidden"});
assert.ok(count > before);
connection.close();
console.log("end");
process.exit(0);
