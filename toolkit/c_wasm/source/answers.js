// What a module answers to rows: each answer's bytes, and behind them its label (int32) where the module says one.
function answersOf(wasm, rows, rowBytes, expected) {
  const { memory, input, input_bytes, output, outputs, run, label } = new WebAssembly.Instance(
    new WebAssembly.Module(wasm),
  ).exports;
  const [size, given] = [input_bytes(), 4 * outputs()];
  if (size !== rowBytes || given !== 4 * expected) {
    throw new RangeError(
      `the module takes rows of ${size} bytes and gives ${given / 4} values, got rows of ${rowBytes} bytes and ` +
        `${expected} values expected; give it rows as its model takes them`,
    );
  }
  const bytes = new Uint8Array(memory.buffer);
  const each = given + (label ? 4 : 0);
  const answers = new Uint8Array((rows.length / size) * each);
  const labels = new DataView(answers.buffer);
  for (let row = 0; row * size < rows.length; row++) {
    bytes.set(rows.subarray(row * size, (row + 1) * size), input());
    run();
    answers.set(bytes.subarray(output(), output() + given), row * each);
    if (label) labels.setInt32(row * each + given, label(), true);
  }
  return answers;
}

if (typeof module !== "undefined") module.exports = { answersOf };
