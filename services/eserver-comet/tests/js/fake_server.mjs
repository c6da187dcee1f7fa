// A server that does what the test says: each request goes to the next of a list of answers.

import {createServer} from "node:http";
import {once} from "node:events";

export async function serve(t, ...answers) {
  const requests = [];
  const server = createServer(async (request, response) => {
    const url = new URL(request.url, "http://localhost");
    const asked = {
      path: url.pathname,
      channels: url.searchParams.getAll("channel"),
      cursor: url.searchParams.get("cursor"),
      start: url.searchParams.get("start"),
      token: request.headers.authorization,
      ended: new Promise(resolve => response.on("close", resolve)),
    };
    request.on("error", () => {}); // Its client may go at any time.
    requests.push(asked);
    const answer = answers.length > 1 ? answers.shift() : answers[0];
    await answer(response, asked);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return {url: `http://127.0.0.1:${server.address().port}`, requests};
}

const EVENTS = {"Content-Type": "text/event-stream"};

export const frame = (message, cursor) =>
  (message.type === "message" ? "" : `event: ${message.type}\n`) +
  (cursor ? `id: ${cursor}\n` : "") +
  `data: ${JSON.stringify(message)}\n\n`;

export const said = (offset, data, channel = "a") =>
  frame({type: "message", channel, offset, data}, `e:${offset}`);

/** A stream that goes on. */
export const events = (...texts) => response => {
  response.writeHead(200, EVENTS);
  response.write("retry: 20\n\n");
  for (const text of texts) response.write(text);
};

/** A stream that ends. */
export const ending = (...texts) => response => {
  events(...texts)(response);
  response.end();
};

/** A stream that breaks. */
export const breaking = (...texts) => async response => {
  events(...texts)(response);
  await new Promise(resolve => response.write(":\n", resolve));
  response.destroy();
};

export const refusal = (status, code) => response => {
  response.writeHead(status, {"Content-Type": "application/json"});
  response.end(JSON.stringify({error: {code, message: "in words"}}));
};

export const json = value => response => {
  response.writeHead(200, {"Content-Type": "application/json"});
  response.end(JSON.stringify(value));
};

/** Never answers. */
export const silence = () => {};

/** Waits until something is so. */
export async function until(holds) {
  const deadline = Date.now() + 20_000;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`this did not come true: ${holds}`);
    await new Promise(resolve => setTimeout(resolve, 2));
  }
}
