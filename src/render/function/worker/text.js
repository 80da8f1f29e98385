// TextDecoder and TextEncoder for UTF-8 (decoding also Latin-1 and ASCII), and what buffer.js needs of them.
(function (global) {
  'use strict';

  function fromUtf8(bytes) {
    var text = '', i = 0, n = bytes.length;
    while (i < n) {
      var first = bytes[i++];
      var more = first < 0x80 ? 0 : first >= 0xc2 && first < 0xe0 ? 1 : first >= 0xe0 && first < 0xf0 ? 2
        : first >= 0xf0 && first < 0xf5 ? 3 : -1;
      var code = more <= 0 ? first : first & (0x3f >> more);
      var low = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
      var high = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
      while (more > 0 && i < n && bytes[i] >= low && bytes[i] <= high) {
        code = code << 6 | bytes[i++] & 0x3f;
        low = 0x80; high = 0xbf; more--;
      }
      text += more === 0 ? String.fromCodePoint(code) : '\ufffd';
    }
    return text;
  }

  function toUtf8(text) {
    var bytes = [];
    for (var character of String(text)) {
      var code = character.codePointAt(0);
      if (code >= 0xd800 && code < 0xe000) code = 0xfffd;
      if (code < 0x80) bytes.push(code);
      else if (code < 0x800) bytes.push(0xc0 | code >> 6, 0x80 | code & 0x3f);
      else if (code < 0x10000) bytes.push(0xe0 | code >> 12, 0x80 | code >> 6 & 0x3f, 0x80 | code & 0x3f);
      else bytes.push(0xf0 | code >> 18, 0x80 | code >> 12 & 0x3f, 0x80 | code >> 6 & 0x3f, 0x80 | code & 0x3f);
    }
    return bytes;
  }

  function view(data) {
    if (data === undefined) return new Uint8Array(0);
    if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    return new Uint8Array(data);
  }

  var KNOWN = {
    'utf-8': 'utf-8', utf8: 'utf-8', ascii: 'windows-1252', 'us-ascii': 'windows-1252', latin1: 'windows-1252',
    'iso-8859-1': 'windows-1252', 'windows-1252': 'windows-1252'
  };

  function define(name, value) {
    Object.defineProperty(global, name, { value: value, writable: true, configurable: true });
  }

  define('TextDecoder', class TextDecoder {
    constructor(label) {
      var known = KNOWN[String(label === undefined ? 'utf-8' : label).trim().toLowerCase()];
      if (!known) throw new RangeError('TextDecoder: unknown encoding ' + label);
      Object.defineProperty(this, 'encoding', { value: known });
    }
    decode(data) {
      var bytes = view(data);
      if (this.encoding !== 'utf-8') return Array.from(bytes, function (b) { return String.fromCharCode(b); }).join('');
      var text = fromUtf8(bytes);
      return text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
    }
  });

  define('TextEncoder', class TextEncoder {
    get encoding() { return 'utf-8'; }
    encode(text) { return Uint8Array.from(text === undefined ? [] : toUtf8(text)); }
  });

  define('__utf8', { from: fromUtf8, to: toUtf8 });
})(globalThis);
