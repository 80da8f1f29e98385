// A small Buffer: what payload code uses of Node's. A Uint8Array with encodings and readers. A function of the two
// conversions of bytes.rs.
(function (bytesOf, textOf) {
  'use strict';
  class Buffer extends Uint8Array {
    constructor(value, encoding, length) {
      if (typeof value === 'string') super(bytesOf(value, encoding));
      else super(value, encoding, length);
    }
    static from(value, encoding, length) {
      if (typeof value === 'string') return new Buffer(value, encoding);
      if (value instanceof ArrayBuffer) return new Buffer(value, encoding, length);
      if (value && value.type === 'Buffer' && Array.isArray(value.data)) value = value.data;
      if (value === null || typeof value !== 'object') throw new TypeError('Buffer.from: neither bytes nor text');
      return new Buffer(Array.from(value, Number));
    }
    static alloc(size, fill = 0, encoding) {
      var buffer = new Buffer(size), bytes = typeof fill === 'string' ? bytesOf(fill, encoding) : [fill];
      for (var i = 0; bytes.length && i < size; i++) buffer[i] = bytes[i % bytes.length];
      return buffer;
    }
    static allocUnsafe(size) { return new Buffer(size); }
    static isBuffer(value) { return value instanceof Buffer; }
    static byteLength(value, encoding) {
      return typeof value === 'string' ? bytesOf(value, encoding).length : value.byteLength;
    }
    static concat(list, total = list.reduce((sum, part) => sum + part.length, 0)) {
      var buffer = new Buffer(total), at = 0;
      for (var part of list) for (var i = 0; i < part.length && at < total; i++) buffer[at++] = part[i];
      return buffer;
    }
    slice(start, end) { return this.subarray(start, end); }
    toString(encoding, start = 0, end) { return textOf(this.subarray(start, end), encoding); }
    toJSON() { return { type: 'Buffer', data: Array.from(this) }; }
    equals(other) { return this.length === other.length && this.every((byte, i) => byte === other[i]); }
    readUIntBE(at, n) { for (var i = 0, v = 0; i < n; i++) v = v * 256 + this.readUInt8(at + i); return v; }
    readUIntLE(at, n) { for (var v = 0; n--;) v = v * 256 + this.readUInt8(at + n); return v; }
    readIntBE(at, n) { return signed(this.readUIntBE(at, n), n); }
    readIntLE(at, n) { return signed(this.readUIntLE(at, n), n); }
  }
  function signed(value, n) { return value >= 2 ** (8 * n - 1) ? value - 2 ** (8 * n) : value; }
  function view(buffer) { return new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength); }
  function method(name, value) {
    Object.defineProperty(Buffer.prototype, name, { value, writable: true, configurable: true });
  }
  for (var kind of ['Uint8', 'Int8', 'Uint16', 'Int16', 'Uint32', 'Int32', 'Float32', 'Float64', 'BigInt64', 'BigUint64']) {
    let get = 'get' + kind, set = 'set' + kind, size = parseInt(kind.match(/\d+/)) / 8;
    let name = kind.replace('Float32', 'Float').replace('Float64', 'Double');
    for (let order of size === 1 ? [''] : ['LE', 'BE']) {
      var read = function (at = 0) { return view(this)[get](at, order === 'LE'); };
      var write = function (value, at = 0) { view(this)[set](at, value, order === 'LE'); return at + size; };
      for (var alias of [name, name.replace('Uint', 'UInt')]) {
        method('read' + alias + order, read);
        method('write' + alias + order, write);
      }
    }
  }
  return Buffer;
})
