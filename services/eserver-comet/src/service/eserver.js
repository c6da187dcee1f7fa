// Listens to channels of eserver, and publishes to them; docs/comet-api.md shows how.
//
// Server-sent events come first, read by `fetch`: `EventSource` hides statuses and signs of life.
// Where they are held back, long polls take over; who publishes gets a WebSocket. Each goes on by
// the cursor.

const FIRST_BYTE_MS = 10_000; // A stream that takes longer to begin is held back.
const PUBLISH_MS = 30_000; // How long a publication waits.
const SOCKET_FAILURES = 3; // After so many in a row they are given up.

export function connect({
  url = new URL(".", import.meta.url).href, // Where the public port is.
  token, // Or a function that gives one, at once or later.
  start, // "now", or "all" that is kept.
  cursor = "", // That of an earlier connection.
  transport = "auto", // Or "events", "poll", "socket".
  silenceMs = 65_000, // How long nothing may be heard.
  retryMsMax = 30_000, // The longest time between attempts.
  WebSocket = globalThis.WebSocket,
} = {}) {
  const renews = typeof token === "function";
  // The state becomes "connecting", "open", "waiting", "closed".
  const connection = {state: "idle", cursor, subscribe, on, publish, close};
  const channels = new Map(); // Sets of listeners, in the order of subscription.
  const others = new Map(); // And to types.
  const publications = new Map(); // What is not answered, by id.
  let lastId = 0;
  let cursorOf; // The channel of the cursor, if it is of one only.
  let bearer = null; // The token in use.
  let attempt; // What ends what is under way: an attempt, or a pause.
  let isDue = false;
  let failures = 0;
  let retryMs = spread(3000);
  let usual = transport === "poll" ? byPolls : byEvents; // But for WebSocket.
  let socket; // One that is open.
  let wantsSocket = false;
  let socketFailures = 0;

  // Has the listener told messages and broadcasts, until what is returned is called.
  function subscribe(channel, listener) {
    if (connection.state === "closed") throw closed();
    const own = message => listener?.(message);
    const listeners = add(channels, channel, own);
    if (listeners.size === 1) changed({type: "subscribe", channel, start});
    return () => {
      listeners.delete(own);
      if (listeners.size || channels.get(channel) !== listeners) return;
      channels.delete(channel);
      changed({type: "unsubscribe", channel});
    };
  }

  // Hears of all of a type: those of the server, "state" when that changes, and "error".
  function on(type, listener) {
    const listeners = add(others, type, listener);
    return () => listeners.delete(listener);
  }

  // Publishes once; gives `{offset, subscribers}`.
  function publish(channel, data, {event, idempotencyKey: idempotency_key = randomKey()} = {}) {
    if (connection.state === "closed") throw closed();
    const id = ++lastId;
    const text = JSON.stringify({type: "publish", id, channel, data, event, idempotency_key});
    return new Promise((resolve, reject) => {
      const settle = (error, {offset, subscribers} = {}) => {
        publications.delete(id);
        clearTimeout(timer);
        if (error) reject(error);
        else resolve({offset, subscribers});
      };
      const late = () => settle(failure("timeout", "no answer came in time"));
      const timer = setTimeout(late, PUBLISH_MS);
      publications.set(id, {text, settle});
      if (socket) return socket.send(text);
      if (!wantsSocket) socketFailures = 0;
      if (!wantsSocket || connection.state === "idle") changed();
      wantsSocket = true;
    });
  }

  function close() {
    channels.clear();
    settleAll(closed());
    become("closed");
    attempt?.abort();
  }

  // Tells the socket, or begins anew with the channels that are there then.
  function changed(order) {
    if (socket && order) return socket.send(JSON.stringify(order));
    if (isDue) return;
    isDue = true;
    queueMicrotask(() => {
      isDue = false;
      attempt?.abort();
      if (connection.state === "idle") run();
    });
  }

  async function run() {
    const isWanted = () => channels.size + publications.size > 0;
    while (isWanted()) {
      const {signal} = (attempt = new AbortController());
      become("connecting");
      const problem = await listen(signal).catch(error => error);
      if (isCalledOff(signal)) continue;
      if (problem && isWanted() && !bears(problem)) close();
      if (isWanted()) await pause(problem);
    }
    become("idle");
  }

  // Whether to go on after something went wrong.
  function bears({code = "connection", status = 0, message}) {
    const isAboutToken = [401, 403].includes(status);
    if (isAboutToken) bearer = null;
    if (code === "bad_cursor") connection.cursor = "";
    emit({type: "error", code, message});
    if (isAboutToken) return renews;
    return status < 400 || status >= 500 || [408, 429].includes(status) || code === "bad_cursor";
  }

  async function pause(problem) {
    // After an end in order the server has said when.
    let delay = token && bearer === null ? 0 : retryMs;
    if (problem) delay = spread(Math.min(retryMsMax, 1000 * 2 ** failures++));
    become("waiting");
    let timer;
    await new Promise(abort => {
      timer = setTimeout(abort, delay);
      globalThis.addEventListener?.("online", abort);
      attempt = {abort};
    });
    clearTimeout(timer);
    globalThis.removeEventListener?.("online", attempt.abort);
  }

  async function listen(signal) {
    bearer ??= renews ? await token() : token ?? "";
    if (signal.aborted) return;
    const isForSocket = transport === "socket" || (transport === "auto" && wantsSocket);
    const way = isForSocket && socketFailures < SOCKET_FAILURES ? bySocket : usual;
    if (way === usual && !channels.size) return giveUpSocket();
    let last = Date.now();
    const heard = () => {
      last = Date.now();
      if (connection.state === "open") return;
      failures = 0;
      if (socketFailures) giveUpSocket();
      become("open");
    };
    const timer = setInterval(() => {
      const silentMs = Date.now() - last;
      const mayWait = connection.state === "open" || way === byPolls;
      if (silentMs > (mayWait ? silenceMs : Math.min(FIRST_BYTE_MS, silenceMs))) {
        if (!mayWait && way === byEvents) usual = byPolls;
        attempt.abort(failure("silence", "nothing was heard"));
      } else if (silentMs > silenceMs / 2) socket?.send('{"type":"ping"}');
    }, Math.min(silenceMs / 4, 1000));
    return way(signal, heard).finally(() => clearInterval(timer));
  }

  async function byEvents(signal, heard) {
    const reader = (await ask("v1/events", signal)).body.getReader();
    const decoder = new TextDecoder();
    let [text, data, cursor] = ["", ""];
    for (;;) {
      const {value, done} = await reader.read();
      if (done || signal.aborted) return;
      heard();
      const lines = (text + decoder.decode(value, {stream: true})).split(/\r?\n/);
      text = lines.pop();
      for (const line of lines) {
        const [, field, content] = /^([^:]*):? ?(.*)/s.exec(line);
        if (field === "data") data += content;
        else if (field === "id") cursor = content;
        else if (field === "retry") retryMs = Number(content);
        else if (!line && data) {
          take({...JSON.parse(data), cursor});
          [data, cursor] = [""];
          if (signal.aborted) return;
        }
      }
    }
  }

  async function byPolls(signal, heard) {
    while (!signal.aborted) {
      const {cursor, messages} = await (await ask("v1/poll", signal)).json();
      heard();
      if (cursor) keep(cursor, channels.keys().next().value);
      messages.forEach(take);
      if (!cursor || !channels.size) return;
    }
  }

  async function bySocket(signal, heard) {
    const address = addressOf("v1/socket");
    address.protocol = address.protocol.replace("http", "ws");
    if (bearer) address.searchParams.set("token", bearer);
    let own;
    await new Promise(end => {
      own = new WebSocket(address.href);
      // Node.js 20 tells of no close after an error.
      signal.onabort = own.onclose = own.onerror = end;
      own.onopen = () => {
        if (signal.aborted) return;
        socket = own;
        socketFailures = 0;
        heard();
        for (const {text} of publications.values()) own.send(text);
      };
      own.onmessage = ({data}) => {
        if (signal.aborted) return;
        heard();
        take(JSON.parse(data));
      };
    }).catch(() => {}); // There are none, or not from here.
    own?.close();
    const wasOpen = socket;
    socket = null;
    if (wasOpen || isCalledOff(signal)) return;
    // Nobody says why: it may be the token, or something on the way.
    socketFailures++;
    bearer = null;
    throw failure("no_socket", "the WebSocket did not open");
  }

  function addressOf(path) {
    const address = new URL(path, url.replace(/\/?$/, "/"));
    const query = address.searchParams;
    // A cursor of one channel is that of the first.
    const names = [...channels.keys()].sort((a, b) => (b === cursorOf) - (a === cursorOf));
    for (const name of names) query.append("channel", name);
    const {cursor} = connection;
    if (cursor && [undefined, names[0]].includes(cursorOf)) query.set("cursor", cursor);
    if (start) query.set("start", start);
    return address;
  }

  async function ask(path, signal) {
    const headers = bearer ? {Authorization: `Bearer ${bearer}`} : {};
    const answer = await fetch(addressOf(path), {headers, signal, cache: "no-store"});
    if (answer.ok) return answer;
    const {status} = answer;
    const {error} = await answer.json().catch(() => ({}));
    throw failure(error?.code ?? "http", error?.message ?? `the answer is ${status}`, status);
  }

  function take(message) {
    const {type, channel, code, cursor, id} = message;
    const error = type === "error" && failure(code, message.message);
    if (id !== undefined) return publications.get(id)?.settle(error, message);
    if (cursor) keep(cursor, channel);
    if (type === "goodbye") retryMs = message.retry_ms;
    const listeners = channels.get(channel);
    if (type === "closed" || code === "token") channels.delete(channel);
    // There was no room in one of them, and may be later.
    else if (error && channel && channels.size > 1) setTimeout(changed, spread(retryMsMax));
    if (["message", "broadcast"].includes(type)) tell(listeners, message);
    emit(message);
    if (code !== "token_expired") return;
    bearer = null;
    if (!renews) close();
  }

  function keep(cursor, channel) {
    connection.cursor = cursor;
    cursorOf = cursor.includes(":") ? channel : undefined;
  }

  // No WebSocket gets through, or nothing else is to be done.
  function giveUpSocket() {
    wantsSocket = false;
    settleAll(failure("no_socket", "no WebSocket gets through"));
  }

  function settleAll(error) {
    for (const {settle} of publications.values()) settle(error);
  }

  function become(state) {
    if ([state, "closed"].includes(connection.state)) return;
    connection.state = state;
    emit({type: "state", state});
  }

  const emit = message => tell(others.get(message.type), message);

  return connection;
}

const failure = (code, message, status) => Object.assign(new Error(message), {code, status});
const closed = () => failure("closed", "the connection was closed");

// Whether an attempt was ended, and not by silence.
const isCalledOff = ({aborted, reason}) => aborted && reason.code !== "silence";

const spread = ms => (ms * (1 + Math.random())) / 2;

const randomKey = () => [1, 2, 3].map(() => Math.random().toString(36).slice(2)).join("");

function add(sets, key, value) {
  const set = sets.get(key) ?? new Set();
  sets.set(key, set.add(value));
  return set;
}

// What goes wrong in a listener is not the connection's trouble.
function tell(listeners, message) {
  listeners?.forEach(listener => {
    try {
      listener(message);
    } catch (error) {
      console.error(error);
    }
  });
}
