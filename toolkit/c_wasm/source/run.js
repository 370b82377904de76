// Rows from stdin through a model as WebAssembly; every answer's bytes to stdout, and behind them its label (int32)
// where the module says one.
const { readFileSync, writeSync } = require("node:fs");

const rows = readFileSync(0);
const { memory, input, input_bytes, output, outputs, run, label } = new WebAssembly.Instance(
  new WebAssembly.Module(readFileSync(process.argv[2])),
).exports;
const [size, given] = [input_bytes(), 4 * outputs()];
const [row_bytes, expected] = process.argv.slice(3).map(Number);
if (size !== row_bytes || given !== 4 * expected) {
  console.error(
    `the module takes rows of ${size} bytes and gives ${given / 4} values, got rows of ${row_bytes} bytes and ` +
      `${expected} values expected; give it rows as its model takes them`,
  );
  process.exit(2);
}
const bytes = new Uint8Array(memory.buffer);
const each = given + (label ? 4 : 0);
const answers = Buffer.alloc((rows.length / size) * each);
for (let row = 0; row * size < rows.length; row++) {
  bytes.set(rows.subarray(row * size, (row + 1) * size), input());
  run();
  answers.set(bytes.subarray(output(), output() + given), row * each);
  if (label) answers.writeInt32LE(label(), row * each + given);
}
for (let at = 0; at < answers.length; ) at += writeSync(1, answers, at);
