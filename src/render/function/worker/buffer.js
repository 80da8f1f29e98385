// A small Buffer: what payload code uses of Node's. A Uint8Array with encodings and readers.
(function (global) {
  'use strict';

  var utf8 = global.__utf8;
  var DIGITS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

  function fromHex(text) {
    var bytes = [];
    for (var i = 0; i + 1 < text.length; i += 2) {
      var pair = text.substr(i, 2);
      if (!/^[0-9a-fA-F]{2}$/.test(pair)) break;
      bytes.push(parseInt(pair, 16));
    }
    return bytes;
  }

  function fromBase64(text) {
    var bytes = [], bits = 0, value = 0;
    for (var character of text.replace(/-/g, '+').replace(/_/g, '/')) {
      var digit = DIGITS.indexOf(character);
      if (character === '=') break;
      if (digit < 0) continue;
      value = (value << 6 | digit) & 0xffffff;
      bits += 6;
      if (bits >= 8) bytes.push(value >> (bits -= 8) & 0xff);
    }
    return bytes;
  }

  function toBase64(bytes, url) {
    var text = '';
    for (var i = 0; i < bytes.length; i += 3) {
      var left = bytes.length - i;
      var value = bytes[i] << 16 | (bytes[i + 1] || 0) << 8 | (bytes[i + 2] || 0);
      text += DIGITS[value >> 18] + DIGITS[value >> 12 & 63];
      text += left > 1 ? DIGITS[value >> 6 & 63] : '=';
      text += left > 2 ? DIGITS[value & 63] : '=';
    }
    return url ? text.replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '') : text;
  }

  function encode(text, encoding) {
    switch (String(encoding === undefined ? 'utf8' : encoding).toLowerCase()) {
      case 'hex': return fromHex(text);
      case 'base64': case 'base64url': return fromBase64(text);
      case 'utf8': case 'utf-8': return utf8.to(text);
      case 'ascii': case 'latin1': case 'binary':
        return Array.from({ length: text.length }, function (_, i) { return text.charCodeAt(i) & 0xff; });
      default: throw new TypeError('Buffer: unknown encoding ' + encoding);
    }
  }

  function latin1(bytes, mask) {
    var text = '';
    for (var i = 0; i < bytes.length; i++) text += String.fromCharCode(bytes[i] & mask);
    return text;
  }

  class Buffer extends Uint8Array {
    constructor(value, encoding, length) {
      if (typeof value === 'string') super(encode(value, encoding));
      else super(value, encoding, length);
    }
    static from(value, encoding, length) {
      if (typeof value === 'string') return new Buffer(encode(value, encoding));
      if (value instanceof ArrayBuffer) return new Buffer(value, encoding, length);
      if (value && value.type === 'Buffer' && Array.isArray(value.data)) value = value.data;
      if (value === null || typeof value !== 'object') throw new TypeError('Buffer.from: not bytes or text');
      return new Buffer(Array.from(value, Number));
    }
    static alloc(size, fill, encoding) {
      var buffer = new Buffer(size);
      if (typeof fill === 'string') {
        var bytes = encode(fill, encoding);
        for (var i = 0; bytes.length && i < size; i++) buffer[i] = bytes[i % bytes.length];
        return buffer;
      }
      return fill === undefined ? buffer : buffer.fill(fill);
    }
    static allocUnsafe(size) { return new Buffer(size); }
    static isBuffer(value) { return value instanceof Buffer; }
    static byteLength(value, encoding) {
      return typeof value === 'string' ? encode(value, encoding).length : value.byteLength;
    }
    static concat(list, total) {
      if (total === undefined) total = list.reduce(function (sum, part) { return sum + part.length; }, 0);
      var buffer = new Buffer(total), at = 0;
      list.forEach(function (part) {
        for (var i = 0; i < part.length && at < total; i++) buffer[at++] = part[i];
      });
      return buffer;
    }
    slice(start, end) { return this.subarray(start, end); }
    toString(encoding, start, end) {
      var bytes = start === undefined && end === undefined ? this : this.subarray(start || 0, end);
      switch (String(encoding === undefined ? 'utf8' : encoding).toLowerCase()) {
        case 'hex': return Array.from(bytes, function (b) { return (b < 16 ? '0' : '') + b.toString(16); }).join('');
        case 'base64': return toBase64(bytes, false);
        case 'base64url': return toBase64(bytes, true);
        case 'utf8': case 'utf-8': return utf8.from(bytes);
        case 'ascii': return latin1(bytes, 0x7f);
        case 'latin1': case 'binary': return latin1(bytes, 0xff);
        default: throw new TypeError('Buffer: unknown encoding ' + encoding);
      }
    }
    toJSON() { return { type: 'Buffer', data: Array.from(this) }; }
    equals(other) {
      return this.length === other.length && this.every(function (byte, i) { return byte === other[i]; });
    }
    readUIntBE(at, length) { var v = 0; for (var i = 0; i < length; i++) v = v * 256 + this.readUInt8(at + i); return v; }
    readUIntLE(at, length) { var v = 0; while (length--) v = v * 256 + this.readUInt8(at + length); return v; }
    readIntBE(at, length) { return signed(this.readUIntBE(at, length), length); }
    readIntLE(at, length) { return signed(this.readUIntLE(at, length), length); }
  }

  function signed(value, length) {
    var range = Math.pow(256, length);
    return value >= range / 2 ? value - range : value;
  }

  function view(buffer) { return new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength); }

  // [Node's name, DataView's name, bytes]
  [['UInt8', 'Uint8', 1], ['Int8', 'Int8', 1], ['UInt16', 'Uint16', 2], ['Int16', 'Int16', 2],
    ['UInt32', 'Uint32', 4], ['Int32', 'Int32', 4], ['Float', 'Float32', 4], ['Double', 'Float64', 8],
    ['BigInt64', 'BigInt64', 8], ['BigUInt64', 'BigUint64', 8]].forEach(function (kind) {
    (kind[2] === 1 ? [''] : ['LE', 'BE']).forEach(function (order) {
      var little = order === 'LE';
      var read = function (at) { return view(this)['get' + kind[1]](at || 0, little); };
      var write = function (value, at) { view(this)['set' + kind[1]](at || 0, value, little); return (at || 0) + kind[2]; };
      [kind[0], kind[0].replace('UInt', 'Uint')].forEach(function (name) {
        define(Buffer.prototype, 'read' + name + order, read);
        define(Buffer.prototype, 'write' + name + order, write);
      });
    });
  });

  function define(on, name, value) {
    Object.defineProperty(on, name, { value: value, writable: true, configurable: true });
  }
  define(global, 'Buffer', Buffer);
})(globalThis);
