// In Node: rows from stdin through a model as WebAssembly, answers to stdout.
const { readFileSync, writeSync } = require("node:fs");
const { answersOf } = require("./answers.js");

const [rowBytes, expected] = process.argv.slice(3).map(Number);
try {
  const answers = answersOf(readFileSync(process.argv[2]), readFileSync(0), rowBytes, expected);
  for (let at = 0; at < answers.length; ) at += writeSync(1, answers, at);
} catch (error) {
  if (!(error instanceof RangeError) || !error.message.startsWith("the module")) throw error;
  console.error(error.message);
  process.exit(2);
}
