//! What a playlist costs on its way through the gate: CPU, bytes on the wire, memory.

import { gunzipSync } from "node:zlib";

import { Failure } from "../tools/project.mjs";
import { median, ratio, round, say, table, takeTurns } from "./figures.mjs";
import { bodyOf } from "./load.mjs";
import { COURSE, always, headers, mediaPlaylist, signed } from "./requests.mjs";
import { gate, rival } from "./runtime.mjs";

const SECONDS = 50;
const PLAIN = "identity";
const GZIP = "gzip";
const SHORT = `${COURSE}/short.m3u8`;
const HOUR = `${COURSE}/hour.m3u8`;
const UNEVEN = `${COURSE}/uneven.m3u8`;
const LONG = `${COURSE}/long.m3u8`;
const MEBIBYTE = 1024 * 1024;

/** CPU time of the whole request, and what goes over the wire. */
export async function playlists({ start }) {
  const { variables, query } = signed();
  const objects = {
    [SHORT]: mediaPlaylist(10),
    [HOUR]: mediaPlaylist(1000),
    [UNEVEN]: mediaPlaylist(1000, (number) => (number % 2 ? 3.989333 : 4.010667)),
  };
  const remembering = { ...variables, REMEMBER: "on" };
  const workers = {
    gate: gate(variables, objects),
    byLines: rival(remembering, objects),
    byBytes: rival({ ...remembering, BY_BYTES: "on" }, objects),
  };
  const rows = [];
  for (const [key, name, count] of [
    [SHORT, "10 segments", 400],
    [HOUR, "1,000 segments", 100],
  ]) {
    for (const encoding of [PLAIN, GZIP]) rows.push({ key, name: `${name}, ${encoding}`, encoding, count });
  }
  const contests = [];
  for (const row of rows) {
    const path = `/${row.key}?${query}`;
    const next = always(path, row.encoding);
    const bodies = [];
    for (const [name, worker] of Object.entries(workers)) {
      // One for each kind of answer: what long ones leave to be tidied up is not put down to the others.
      const runtime = await start(`${name}-${contests.length}`, worker);
      const body = await bodyOf(runtime.port, path, headers(row.encoding));
      bodies.push(row.encoding === GZIP ? gunzipSync(body) : body);
      row[name] = { times: [], turn: () => runtime.cpuOf(row.count, next, 200) };
      contests.push(row[name]);
      await runtime.cpuOf(4 * row.count, next, 200);
    }
    if (!bodies.every((body) => body.equals(bodies[0]))) throw new Failure(`${row.name}: they answer differently`);
  }
  const rounds = await takeTurns(contests, SECONDS);

  say(`CPU time of a request for a playlist, in µs: medians of ${rounds} rounds. The signature is remembered.`);
  say("How many times as long the gate takes is in brackets.\n");
  const beside = (times, others) => `${round(median(others))} (${ratio(times, others).toFixed(2)})`;
  table(
    ["Rust", "JS, lines", "JS, bytes"],
    rows.map(({ name, gate: { times }, byLines, byBytes }) => {
      return [name, round(median(times)), beside(times, byLines.times), beside(times, byBytes.times)];
    }),
  );
  const [short, shortGzip, hour, hourGzip] = rows;
  const better = ({ byLines, byBytes }) => (median(byLines.times) < median(byBytes.times) ? byLines : byBytes).times;
  const times = (row, other = row) => ratio(row.gate.times, better(other)).toFixed(2);
  const less = (row, other = row) => ratio(better(other), row.gate.times).toFixed(2);
  say("\nWhat it should be, beside the better of the two in JavaScript:");
  say(`- 1,000 segments take it ${less(hour)} times less (at least 1.4);`);
  say(`  with gzip ${less(hourGzip, hour)} times less than JavaScript without (at least 2.5), ${less(hourGzip)} less than with it.`);
  say(`- 10 segments take it ${times(short)} of what they take in JavaScript (at most 1.1);`);
  say(`  with gzip ${times(shortGzip, short)} of what they take in JavaScript without, ${times(shortGzip)} of with it.\n`);

  const signing = await start("signing", workers.gate);
  const tickets = await start("tickets", gate({ ...variables, TICKET_SECRET: "0123456789abcdef".repeat(4) }, objects));
  const onTheWire = async ({ port }, key, encoding) => {
    const { length } = await bodyOf(port, `/${key}?${query}`, headers(encoding));
    return (length / 1000).toFixed(1);
  };
  const sizes = [];
  for (const [name, key] of [
    ["1,000 segments", HOUR],
    ["with durations that vary, as sound's", UNEVEN],
  ]) {
    const row = [name];
    for (const runtime of [signing, tickets]) {
      for (const encoding of [PLAIN, GZIP]) row.push(await onTheWire(runtime, key, encoding));
    }
    sizes.push(row);
  }
  say("Bytes on the wire for each link; gzip should take at most 13.\n");
  table(["plain", "gzip", "ticket", "+ gzip"], sizes);
}

/** Memory at its peak, each time in a workerd that has not seen a long playlist. */
export async function memory({ start }) {
  const { variables, query } = signed();
  const objects = { [SHORT]: mediaPlaylist(10), [LONG]: mediaPlaylist(100_000) };
  const peaks = {};
  for (let i = 0; i < 3; i += 1) {
    for (const [name, worker, encoding] of [
      ["gzip", gate(variables, objects), GZIP],
      ["stream", gate(variables, objects), PLAIN],
      ["inJs", rival({ ...variables, REMEMBER: "on" }, objects), PLAIN],
    ]) {
      const runtime = await start(`${name}-${i}`, worker);
      await runtime.cpuOf(500, always(`/${SHORT}?${query}`, encoding), 200);
      const peak = await runtime.peakOf(always(`/${LONG}?${query}`, encoding), 200);
      (peaks[name] ??= []).push(peak / MEBIBYTE);
      await runtime.stop();
    }
  }
  const { gzip, stream, inJs } = peaks;
  const all = (peaks) => peaks.map((peak) => peak.toFixed(0)).join(", ");
  say("A playlist of 100,000 segments in a fresh workerd, MiB above what it had resident before, three times:");
  say(`- gzip: ${all(gzip)} (at most 24)`);
  say(`- plain, as a stream: ${all(stream)} (at most 56)`);
  say(`- plain in JavaScript, which makes one text of it: ${all(inJs)}`);
}
