//! Asks a server on this machine as many viewers at once would, each over a connection of its own that is kept alive.

import { once } from "node:events";
import { connect } from "node:net";

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

/** Asks one thing after the other, until there is none left. */
function askOn(socket, takeOne, status) {
  return new Promise((resolve, reject) => {
    let received = "";
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
      received += bytes.latin1Slice();
      if (!isWhole(received)) return;
      if (!received.startsWith(`HTTP/1.1 ${status} `)) return fail(`said ${received.slice(0, 300)}`);
      received = "";
      askNext();
    });
    askNext();
  });
}

/** Whether an answer is there to its end. There is never another behind it, as nothing more was asked. */
function isWhole(answer) {
  const head = answer.indexOf("\r\n\r\n");
  if (head < 0) return false;
  const length = /\r\ncontent-length: (\d+)\r\n/i.exec(answer.slice(0, head + 2))?.[1];
  return length === undefined ? answer.endsWith("\r\n0\r\n\r\n") : answer.length >= head + 4 + Number(length);
}
