// TextDecoder for UTF-8, Latin-1 and ASCII, and TextEncoder. A function of the two conversions of bytes.rs.
(function (bytesOf, textOf) {
  'use strict';
  var KNOWN = {
    'utf-8': 'utf-8', utf8: 'utf-8', 'unicode-1-1-utf-8': 'utf-8', ascii: 'windows-1252', 'us-ascii': 'windows-1252',
    latin1: 'windows-1252', 'iso-8859-1': 'windows-1252', 'windows-1252': 'windows-1252'
  };
  return {
    TextDecoder: class TextDecoder {
      constructor(label = 'utf-8') {
        this.encoding = KNOWN[String(label).trim().toLowerCase()];
        if (!this.encoding) throw new RangeError('TextDecoder: unknown encoding ' + label);
      }
      decode(data = new ArrayBuffer(0)) {
        var bytes = data.buffer ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : new Uint8Array(data);
        if (this.encoding !== 'utf-8') return textOf(bytes, 'latin1');
        var text = textOf(bytes, 'utf8');
        return text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
      }
    },
    TextEncoder: class TextEncoder {
      get encoding() { return 'utf-8'; }
      encode(text = '') { return Uint8Array.from(bytesOf(String(text), 'utf8')); }
    }
  };
})
