//! What a segment costs on its way through the gate, beside Workers that do nothing but hand it on: CPU, and how many
//! one process serves.
//!
//! What the bucket costs (here it is in the same process) and what the network costs is in all of them alike. The
//! signature is remembered, as it is of a viewer from the second segment on.

import { randomBytes } from "node:crypto";

import { Failure } from "../tools/project.mjs";
import { median, ratio, round, say, table, takeTurns } from "./figures.mjs";
import { bodyOf } from "./load.mjs";
import { COURSE, always, headers, signed } from "./requests.mjs";
import { bare, bareInJs, gate } from "./runtime.mjs";

const SECONDS = 50;
const SHORT = `${COURSE}/segment_00042.m4s`;
const LONG = `${COURSE}/segment_00043.m4s`;
/** What `hello` hands on of an object below `/part/`. */
const RANGE = "bytes=1000-66535";

export async function segments({ start }) {
  const { variables, query } = signed();
  const objects = { [SHORT]: randomBytes(64 * 1024), [LONG]: randomBytes(1024 * 1024) };
  const workers = { gate: gate(variables, objects), rust: bare(objects), js: bareInJs(objects) };
  const rows = [
    { name: "64 KB", key: SHORT, count: 200 },
    { name: "1 MB", key: LONG, count: 40 },
    { name: "64 KB of 1 MB, as a range", key: LONG, range: RANGE, count: 200 },
  ];
  const contests = [];
  for (const row of rows) {
    const bodies = [];
    for (const [name, worker] of Object.entries(workers)) {
      const runtime = await start(`${name}-${contests.length}`, worker);
      const path = name === "gate" ? `/${row.key}?${query}` : `${row.range ? "/part" : ""}/${row.key}`;
      const status = row.range ? 206 : 200;
      const asked = { ...headers(), ...(row.range && { Range: row.range }) };
      bodies.push(await bodyOf(runtime.port, path, asked, status));
      const next = always(path, undefined, row.range);
      const contest = { times: [], rates: [] };
      contest.turn = async () => {
        const { cpu, rate } = await runtime.costOf(row.count, next, status);
        contest.rates.push(rate);
        return cpu;
      };
      row[name] = contest;
      contests.push(contest);
      await runtime.costOf(5 * row.count, next, status);
    }
    const whole = objects[row.key];
    const right = row.range ? whole.subarray(1000, 66536) : whole;
    if (!bodies.every((body) => body.equals(right))) throw new Failure(`${row.name}: not the bytes that are stored`);
  }
  const rounds = await takeTurns(contests, SECONDS);

  const beside = (figures, others) => `${round(median(figures))} (${ratio(others, figures).toFixed(2)})`;
  say(`CPU time of a request for a segment, in µs: medians of ${rounds} rounds. The signature is remembered. How many`);
  say("times as long the gate takes is in brackets. The others hand on what the bucket has, and check nothing.\n");
  table(
    ["gate", "bare Rust", "bare JS"],
    rows.map(({ name, gate, rust, js }) => {
      return [name, round(median(gate.times)), beside(rust.times, gate.times), beside(js.times, gate.times)];
    }),
  );
  say("\nRequests in a second, of one Node over 16 connections. How many times as many the gate serves is in brackets.\n");
  table(
    ["gate", "bare Rust", "bare JS"],
    rows.map(({ name, gate, rust, js }) => {
      return [name, round(median(gate.rates)), beside(rust.rates, gate.rates), beside(js.rates, gate.rates)];
    }),
  );
  say("\nWhat it should be:");
  for (const { name, gate, rust, js } of rows) {
    const times = (others) => ratio(gate.times, others.times).toFixed(2);
    say(`- ${name}: ${times(rust)} of the CPU that the bare one in Rust takes (at most 1.15),`);
    say(`  ${times(js)} of what the one in JavaScript takes (at most 1).`);
  }
}
