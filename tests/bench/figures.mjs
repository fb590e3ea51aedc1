//! What is made of measurements, and how it is printed.

/** How long contests go on at least, whatever they take. */
const FEWEST_ROUNDS = 5;

/**
 * Lets contests take turns for some seconds: each has a `turn`, which says what it took, and collects that in `times`.
 * There and back again: who comes later in one round comes earlier in the next. Returns how many rounds there were.
 */
export async function takeTurns(contests, seconds) {
  const end = Date.now() + seconds * 1000;
  let rounds = 0;
  for (; rounds < FEWEST_ROUNDS || Date.now() < end; rounds += 1) {
    for (const { turn, times } of rounds % 2 ? contests.toReversed() : contests) times.push(await turn());
  }
  return rounds;
}

/** How many times the others it takes, by what neighbours took. */
export function ratio(ones, others) {
  return median(ones.map((time, i) => time / others[i]));
}

/** How much more it takes than the others. */
export function difference(ones, others) {
  return median(ones.map((time, i) => time - others[i]));
}

export function median(numbers) {
  const sorted = numbers.toSorted((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

export function round(number) {
  return number.toFixed(0);
}

export function say(text) {
  process.stdout.write(`${text}\n`);
}

/** Prints a table: what its columns are called, then a row for each list of cells, the first of which is its name. */
export function table(columns, rows) {
  const line = (name, cells) => say(`| ${[name.padEnd(40), ...cells.map((cell) => cell.padStart(10))].join(" | ")} |`);
  line("", columns);
  line("---", columns.map(() => "---:"));
  for (const [name, ...cells] of rows) line(name, cells);
}
