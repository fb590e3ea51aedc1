//! Asks a server on this machine as many viewers at once would, each over a connection of its own that is kept alive.

import { once } from "node:events";
import { get } from "node:http";
import { connect } from "node:net";
import { buffer } from "node:stream/consumers";

import { Failure } from "../tools/project.mjs";

/** So that the server has always something to do, and never much. */
const CONNECTIONS = 16;

/** Longer than any answer here could take. */
const PATIENCE_MILLISECONDS = 20_000;

/**
 * Asks `count` times, with what `next` says, and wants to be answered with `status` each time. `begin` is called when
 * all are connected. Connections are new each time, because workerd closes those that were idle for some seconds.
 */
export async function ask(port, count, next, status, begin = () => {}) {
  const sockets = Array.from({ length: CONNECTIONS }, () => connect({ host: "127.0.0.1", port, noDelay: true }));
  try {
    await Promise.all(sockets.map((socket) => once(socket, "connect")));
    begin();
    let left = count;
    const takeOne = () => (left-- > 0 ? next() : undefined);
    await Promise.all(sockets.map((socket) => askOn(socket, takeOne, status)));
  } finally {
    for (const socket of sockets) socket.destroy();
  }
}

/** The body of an answer, as it comes over the wire. */
export async function bodyOf(port, path, headers, status = 200) {
  const [answer] = await once(get({ host: "127.0.0.1", port, path, headers, agent: false }), "response");
  const body = await buffer(answer);
  if (answer.statusCode !== status) throw new Failure(`the Worker said ${answer.statusCode} ${body.subarray(0, 300)}`);
  return body;
}

/** Asks one thing after the other, until there is none left. */
function askOn(socket, takeOne, status) {
  return new Promise((resolve, reject) => {
    let answer = new Answer();
    const settle = (settled, value) => {
      socket.setTimeout(0);
      for (const event of ["data", "error", "close", "timeout"]) socket.removeAllListeners(event);
      settled(value);
    };
    const fail = (what) => settle(reject, new Failure(`the Worker ${what}; it should have answered ${status}`));
    const askNext = () => {
      const request = takeOne();
      if (request === undefined) settle(resolve);
      else socket.write(request);
    };
    socket.setTimeout(PATIENCE_MILLISECONDS);
    socket.once("timeout", () => fail(`has not answered for ${PATIENCE_MILLISECONDS / 1000} s`));
    socket.once("error", (error) => fail(`broke off: ${error.message}`));
    socket.once("close", () => fail("hung up"));
    socket.on("data", (bytes) => {
      if (!answer.add(bytes)) return;
      const { head } = answer;
      if (!head.startsWith(`HTTP/1.1 ${status} `)) return fail(`said ${head.slice(0, 300)}`);
      answer = new Answer();
      askNext();
    });
    askNext();
  });
}

/** An answer as it comes in. Of its body, which may be long, the end is kept. */
class Answer {
  head = "";
  #length;
  #received = 0;
  #end = "";

  /** Whether it is there to its end. There is never another behind it, as nothing more was asked. */
  add(bytes) {
    let body = bytes;
    if (this.#length === undefined) {
      this.head += bytes.latin1Slice();
      const end = this.head.indexOf("\r\n\r\n");
      if (end < 0) return false;
      const length = /\r\ncontent-length: (\d+)\r\n/i.exec(this.head.slice(0, end + 2))?.[1];
      this.#length = length === undefined ? Infinity : Number(length);
      body = bytes.subarray(bytes.length - (this.head.length - end - 4));
      // A body's first bytes say what is wrong, where something is.
      this.head = this.head.slice(0, end + 4 + 300);
    }
    this.#received += body.length;
    this.#end = (this.#end + body.latin1Slice(Math.max(0, body.length - LAST_CHUNK.length))).slice(-LAST_CHUNK.length);
    return this.#received >= this.#length || (this.#length === Infinity && this.#end === LAST_CHUNK);
  }
}

/** What a body ends with whose length was not said. */
const LAST_CHUNK = "\r\n0\r\n\r\n";
