// Written for Node: Buffer, module.exports, classes and the rest of ES2020.
const UNITS = Object.freeze({ 1: "degC", 2: "%RH" });

class Frame {
  #at = 0;
  constructor(bytes) { this.buffer = Buffer.from(bytes); }
  get done() { return this.#at >= this.buffer.length; }
  next() {
    const kind = this.buffer.readUInt8(this.#at);
    const value = this.buffer.readInt16BE(this.#at + 1) / 100;
    this.#at += 3;
    return { unit: UNITS[kind] ?? `kind-${kind}`, value };
  }
}

const text = ({ bytes }) => {
  const buffer = Buffer.from(bytes);
  const copy = Buffer.concat([buffer.slice(0, 2), Buffer.from("0a0b", "hex"), Buffer.alloc(1, 0xff)]);
  return {
    hex: buffer.toString("hex"), base64: buffer.toString("base64"), utf8: buffer.toString(),
    ascii: buffer.subarray(-2).toString("ascii"), copy: copy.toString("hex"), isBuffer: Buffer.isBuffer(copy.subarray(1)),
    decoded: new TextDecoder("utf-8").decode(Uint8Array.from(bytes)), atob: atob("AQI=").length, btoa: btoa("hi"),
    json: Buffer.from("AQI=", "base64"), float: Buffer.from([0x41, 0x48, 0, 0]).readFloatBE(0),
    little: Buffer.from("01020304", "hex").readUInt32LE(), int24: Buffer.from("fffffe", "hex").readIntBE(0, 3),
    round: Buffer.from(new TextEncoder().encode("水")).equals(Buffer.from("水", "utf8"))
  };
};

module.exports = {
  decodeUplink(input) {
    if (input.fPort === 2) return { data: text(input) };
    const frame = new Frame(input.bytes), values = [];
    try {
      while (!frame.done) values.push(frame.next());
    } catch (error) {
      return { data: { values }, warnings: [`cut short (${error.name})`] };
    }
    return { data: { values, at: input.recvTime?.toISOString() } };
  }
};
