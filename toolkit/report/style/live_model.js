// The int8 model of this page: WebAssembly, put together from the page's data, and called.
const liveModel = (() => {
  "use strict";

  // A module of one function that takes a vector apart. A browser that finds it valid has vectors.
  const PROBE = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];

  const decode = (text) => Uint8Array.from(atob(text), (each) => each.charCodeAt(0));

  // What makes answers of the last layer's values.
  const ENDS = {
    Softmax(values) {
      const largest = Math.max(...values);
      const powers = Array.from(values, (each) => Math.exp(each - largest));
      const total = powers.reduce((sum, each) => sum + each, 0);
      return powers.map((each) => each / total);
    },
    Sigmoid: (values) => Array.from(values, (each) => 1 / (1 + Math.exp(-each))),
    null: (values) => Array.from(values),
  };

  class Model {
    constructor(exports, data, vectors) {
      this.vectors = vectors;
      this.data = data;
      this.call = exports.run;
      const at = (start, size) => new Uint8Array(exports.memory.buffer, start, size);
      this.input = at(exports.input(), exports.input_bytes());
      this.output = new Float32Array(exports.memory.buffer, exports.output(), data.outputs);
      this.layers = data.layers.map((layer, number) => at(exports.layer(number + 1), layer.neurons));
      this.pictures = decode(data.pictures);
      this.expected = new Uint32Array(decode(data.logits).buffer);
    }

    // One picture's pixels; gives the values in front of the softmax.
    run(pixels) {
      this.input.set(pixels);
      this.call();
      return this.output.slice();
    }

    answers(values) {
      return ENDS[this.data.end](values);
    }

    picture(at) {
      return this.pictures.slice(at * this.input.length, (at + 1) * this.input.length);
    }

    // How many of the page's rows get the very bits that the file's own runtime gave.
    same() {
      let same = 0;
      for (let row = 0; row < this.data.rows.length; row++) {
        const bits = new Uint32Array(this.run(this.picture(row)).buffer);
        same += bits.every((each, at) => each === this.expected[row * bits.length + at]) ? 1 : 0;
      }
      return same;
    }

    // Microseconds of a run, and how many were measured. Clocks of browsers are coarse, so many are timed at once.
    // Browsers begin with code that was compiled in haste, and compile it well, aside, while it runs: hence the pause.
    async time() {
      for (let run = 0; run < 500; run++) this.call();
      await new Promise((after) => setTimeout(after, 200));
      for (let runs = 64; ; runs *= 2) {
        const began = performance.now();
        for (let run = 0; run < runs; run++) this.call();
        const took = performance.now() - began;
        if (took >= 40 || runs >= 1 << 20) return { microseconds: (1000 * took) / runs, runs };
      }
    }
  }

  return async (data) => {
    const vectors = WebAssembly.validate(Uint8Array.from(PROBE));
    const code = decode(vectors ? data.simd : data.plain), rest = decode(data.rest);
    const bytes = new Uint8Array(code.length + rest.length);
    bytes.set(code);
    bytes.set(rest, code.length);
    const { instance } = await WebAssembly.instantiate(bytes);
    return new Model(instance.exports, data, vectors);
  };
})();
