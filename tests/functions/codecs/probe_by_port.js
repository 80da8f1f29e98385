// One frame a port, numbers rounded through text, a table of models: the shape of long-lived soil and tank probes.
function decodeUplink(input) {
  return {
    data: Decode(input.fPort, input.bytes, input.variables)
  };
}
function str_pad(byte) {
  var zero = '0';
  var hex = byte.toString(16);
  var tmp = 2 - hex.length;
  return zero.substr(0, tmp) + hex + " ";
}
function datalog(i, bytes) {
  var aa = (bytes[0 + i] & 0x02) ? "TRUE" : "FALSE";
  var cc = parseFloat(((bytes[3 + i] << 24 >> 16 | bytes[4 + i]) / 10).toFixed(1));
  var ee = getMyDate((bytes[7 + i] << 24 | bytes[8 + i] << 16 | bytes[9 + i] << 8 | bytes[10 + i]).toString(10));
  return '[' + aa + ',' + cc + ',' + ee + ']' + ',';
}
function getzf(c_num) {
  if (parseInt(c_num) < 10) c_num = '0' + c_num;
  return c_num;
}
function getMyDate(str) {
  var c_Date;
  if (str > 9999999999) c_Date = new Date(parseInt(str));
  else c_Date = new Date(parseInt(str) * 1000);
  var c_Year = c_Date.getFullYear(), c_Month = c_Date.getMonth() + 1, c_Day = c_Date.getDate(),
    c_Hour = c_Date.getHours(), c_Min = c_Date.getMinutes(), c_Sen = c_Date.getSeconds();
  return c_Year + '-' + getzf(c_Month) + '-' + getzf(c_Day) + ' ' + getzf(c_Hour) + ':' + getzf(c_Min) + ':' + getzf(c_Sen);
}
function Decode(fPort, bytes, variables) {
  if (fPort == 0x02) {
    var decode = {};
    value = (bytes[0] << 8 | bytes[1]) & 0x3FFF; // no var: a global
    decode.BatV = value / 1000;
    decode.TempC = parseFloat(((bytes[2] << 24 >> 16 | bytes[3]) / 100).toFixed(2));
    decode.Leak = bytes[0] & 0x40 ? "LEAK" : "DRY";
    decode.Raw = "";
    for (i = 0; i < bytes.length; i++) decode.Raw += str_pad(bytes[i]);
    return decode;
  } else if (fPort == 3) {
    var data_sum;
    for (var i = 0; i < bytes.length; i = i + 11) {
      var data = datalog(i, bytes);
      if (i == '0') data_sum = data;
      else data_sum += data;
    }
    return { DATALOG: data_sum };
  } else if (fPort == 5) {
    var freq_band;
    switch (bytes[1]) {
      case 0x01: freq_band = "EU868"; break;
      case 0x02: freq_band = "US915"; break;
    }
    return { FREQUENCY_BAND: freq_band, FIRMWARE_VERSION: (bytes[0] & 0x0f) + '.' + (bytes[2] >> 4 & 0x0f) };
  }
}
