/* Bits out of a string of zeros and ones, a date, a name in the payload, a downlink encoder and a test at the end that
   only runs elsewhere. */
'use strict';
let state = { frames: 0 };
const decodeUplink = function (input) {
  state.frames += 1;
  const bits = input.bytes.map((b) => b.toString(2).padStart(8, '0')).join('');
  const take = (from, length) => parseInt(bits.substr(from, length), 2);
  if (bits.length < 48) return { errors: ['frame too short'], warnings: ['ignored'] };
  const name = String.fromCharCode.apply(null, input.bytes.slice(6)).replace(/\0+$/g, '');
  return {
    data: {
      moving: !!take(0, 1), mode: ['off', 'slow', 'fast', 'sos'][take(1, 2)], age: new Date(take(8, 32) * 1e3),
      battery: +(take(40, 8) / 255 * 100).toFixed(1), frames: state.frames,
      ...(name && { name }), tags: [...new Set(name)].length
    }
  };
};
if (typeof process !== 'undefined' && typeof require !== 'undefined') {
  console.log(decodeUplink({ fPort: 1, bytes: [] }));
}
if (typeof exports !== 'undefined') { exports.decodeUplink = decodeUplink; }
