//! What the first viewer of a fresh Worker waits for.
//!
//! workerd loads a Worker before it listens: it compiles its JavaScript, runs its modules to their end and has V8 look
//! through the WebAssembly. V8 compiles a function of WebAssembly when it is first called, and that is at the first
//! request, as is all that the gate reads once: its settings, the keys, and what it does at its first signature.
//!
//! So there are two figures. From the moment that workerd listens to the first byte of the first answer, over a
//! connection that is made in that time: what a viewer waits for whose request finds a Worker loaded, as when its
//! connection was made meanwhile. And from the start of the process, which is what a viewer would wait for who comes
//! first of all, with all that workerd itself needs to start; of that, what the Worker takes is how much longer
//! it takes than the one in JavaScript, which has next to nothing to load.

import { once } from "node:events";
import { connect } from "node:net";

import { Failure } from "../tools/project.mjs";
import { difference, median, say, table } from "./figures.mjs";
import { COURSE, always, signed } from "./requests.mjs";
import { bare, bareInJs, gate } from "./runtime.mjs";

const ROUNDS = 15;
const SEGMENT = `/${COURSE}/segment_00042.m4s`;

export async function coldStart({ start }) {
  const { variables, query } = signed();
  const contests = Object.entries({
    "the gate, a signed segment": [gate(variables), `${SEGMENT}?${query}`],
    "bare Rust, the segment": [bare(), SEGMENT],
    "bare JS, the segment": [bareInJs(), SEGMENT],
  }).map(([name, [worker, path]]) => ({ name, worker, request: always(path)(), listened: [], spawned: [] }));

  // The first round is for what the system keeps of files from then on.
  for (let round = 0; round <= ROUNDS; round += 1) {
    for (const contest of round % 2 ? contests.toReversed() : contests) {
      const runtime = await start(`${contests.indexOf(contest)}-${round}`, contest.worker);
      const answered = await firstByte(runtime.port, contest.request);
      await runtime.stop();
      if (round === 0) continue;
      contest.listened.push(answered - runtime.listened);
      contest.spawned.push(answered - runtime.spawned);
    }
  }

  say(`A cold start, in ms to the first byte of the first answer: medians of ${ROUNDS} fresh processes of each. The`);
  say("slowest of them is in brackets.\n");
  const cell = (times) => `${median(times).toFixed(1)} (${Math.max(...times).toFixed(0)})`;
  table(
    ["listening", "process"],
    contests.map(({ name, listened, spawned }) => [name, cell(listened), cell(spawned)]),
  );
  const [ours, rust, js] = contests;
  const over = (other) => difference(ours.spawned, other.spawned).toFixed(1);
  say("\nWhat it should be:");
  say(`- The gate's first byte comes ${median(ours.listened).toFixed(1)} ms after workerd listens (at most 50).`);
  say(`  From the start of the process it comes ${over(js)} ms after that of the bare one in JavaScript, ${over(rust)} ms`);
  say("  after that of the one in Rust: so long the gate's own program takes to load and to begin.");
}

/** When the first byte of an answer comes. */
async function firstByte(port, request) {
  const socket = connect({ host: "127.0.0.1", port, noDelay: true });
  socket.write(request);
  try {
    const [bytes] = await once(socket, "data");
    const now = performance.now();
    if (!bytes.toString("latin1").startsWith("HTTP/1.1 200 ")) throw new Failure(`the Worker said ${bytes}`);
    return now;
  } finally {
    socket.destroy();
  }
}
