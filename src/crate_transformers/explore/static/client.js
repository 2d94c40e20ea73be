// Questions to the server. While one is under way, newer ones wait and only the newest is asked: the rest is dropped.

let halves = null;

function floatOfHalf(bits) {
  if (!halves) {
    halves = new Float32Array(65536);
    for (let i = 0; i < 65536; i++) {
      const sign = i >> 15 ? -1 : 1, exponent = (i >> 10) & 31, fraction = i & 1023;
      if (exponent === 31) halves[i] = fraction ? NaN : sign * Infinity;
      else if (exponent === 0) halves[i] = sign * fraction * 2 ** -24;
      else halves[i] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
    }
  }
  return halves[bits];
}

export function unpack(buffer) {
  const bytes = new Uint8Array(buffer);
  const end = bytes.indexOf(10);
  const { data, arrays } = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end)));
  const found = {};
  for (const [name, { dtype, shape, offset }] of Object.entries(arrays)) {
    const size = shape.reduce((a, b) => a * b, 1);
    const start = end + 1 + offset;
    if (dtype === "uint8") {
      found[name] = { shape, values: bytes.slice(start, start + size) };
    } else {
      const bits = new Uint16Array(buffer.slice(start, start + 2 * size));
      found[name] = { shape, values: Float32Array.from(bits, floatOfHalf) };
    }
  }
  return { data, arrays: found };
}

const WINDOW = Array.from(crypto.getRandomValues(new Uint8Array(8)), (n) => n.toString(16)).join("");

export async function post(path, body) {
  const response = await fetch("/api/" + path, {
    method: "POST",
    headers: { "content-type": body instanceof Blob ? "application/octet-stream" : "application/json" },
    body: body instanceof Blob ? body : JSON.stringify(body),
  });
  if (!response.ok) {
    const told = await response.json().catch(() => ({ error: response.statusText }));
    throw new Error(told.error);
  }
  return response;
}

export const postUnpacked = async (path, body) => unpack(await (await post(path, body)).arrayBuffer());

export async function firstView() {
  const response = await fetch("/first");
  if (response.status !== 200) return null;
  const { data, arrays } = unpack(await response.arrayBuffer());
  const of = (name) => ({
    data: data[name],
    arrays: Object.fromEntries(
      Object.entries(arrays).filter(([key]) => key.startsWith(name + "/")).map(([key, v]) => [key.slice(name.length + 1), v]),
    ),
  });
  return { describe: of("describe"), answer: of("answer") };
}

export class Asker {
  constructor(onAnswer, onError) {
    Object.assign(this, { onAnswer, onError, onBusy: () => {}, next: null, running: false, turn: 0 });
  }

  ask(state, parts) {
    this.next = { state, parts };
    if (!this.running) this.run();
  }

  async run() {
    this.running = true;
    this.onBusy(true);
    while (this.next) {
      const { state, parts } = this.next;
      this.next = null;
      try {
        const answer = await postUnpacked("answer", { state, parts, window: WINDOW, turn: ++this.turn });
        this.onAnswer(answer, state);
      } catch (error) {
        if (!this.next) this.onError(error.message);
      }
    }
    this.running = false;
    this.onBusy(false);
  }
}
