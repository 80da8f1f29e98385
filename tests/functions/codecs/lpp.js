// Low-power payload: a list of typed channels, built with prototypes and a table.
var LPP_TYPES = {
  0: { size: 1, name: 'digital_in', signed: false, divisor: 1 },
  103: { size: 2, name: 'temperature', signed: true, divisor: 10 },
  104: { size: 1, name: 'humidity', signed: false, divisor: 2 },
  113: { size: 6, name: 'accelerometer', signed: true, divisor: 1000 },
  136: { size: 9, name: 'location', signed: true, divisor: [10000, 10000, 100] }
};
function arrayToDecimal(stream, is_signed, decimal_point) {
  var value = 0;
  for (var i = 0; i < stream.length; i++) value = value * 256 + stream[i];
  if (is_signed) {
    var edge = Math.pow(2, stream.length * 8);
    var max = (edge - 1) >> 1;
    if (stream.length === 3) max = 0x7fffff;
    if (stream.length === 2) max = 0x7fff;
    value = value > max ? value - edge : value;
  }
  if (decimal_point) value /= decimal_point;
  return value;
}
function lppDecode(bytes) {
  var sensors = {};
  var i = 0;
  while (i < bytes.length) {
    var s_no = bytes[i++], s_type = bytes[i++];
    if (typeof LPP_TYPES[s_type] == 'undefined') throw 'Sensor type error!: ' + s_type;
    var type = LPP_TYPES[s_type], s_value = 0;
    switch (s_type) {
      case 113:
        s_value = { x: arrayToDecimal(bytes.slice(i, i + 2), true, type.divisor), y: arrayToDecimal(bytes.slice(i + 2, i + 4), true, type.divisor), z: arrayToDecimal(bytes.slice(i + 4, i + 6), true, type.divisor) };
        break;
      case 136:
        s_value = { latitude: arrayToDecimal(bytes.slice(i, i + 3), true, type.divisor[0]), longitude: arrayToDecimal(bytes.slice(i + 3, i + 6), true, type.divisor[1]), altitude: arrayToDecimal(bytes.slice(i + 6, i + 9), true, type.divisor[2]) };
        break;
      default:
        s_value = arrayToDecimal(bytes.slice(i, i + type.size), type.signed, type.divisor);
    }
    sensors[type.name + '_' + s_no] = s_value;
    i += type.size;
  }
  return sensors;
}
function decodeUplink(input) {
  return { data: lppDecode(input.bytes), warnings: [], errors: [] };
}
