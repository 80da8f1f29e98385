// A level sensor for silos: an example of payload code, in the shape that The Things Stack, ChirpStack and the device
// repositories use. It would run there as it stands, and theirs run here.
//
// Port 2, the measurement, big endian:   distance to the content, mm (2)   temperature, 0.1 degC (2, signed)   battery, 0.02 V (1)
// Port 3, the alarm:                     1 = the lid is open
//
// The height of the silo is a variable of the device: variables = { height_cm = "400" }

function decodeUplink(input) {
  var bytes = input.bytes;
  switch (input.fPort) {
    case 2:
      if (bytes.length !== 5) {
        return { errors: ["a measurement has 5 bytes, not " + bytes.length] };
      }
      return measurement(bytes, Number(input.variables && input.variables.height_cm));
    case 3:
      return { data: { lid_open: bytes[0] === 1 } };
    default:
      return { errors: ["unknown port " + input.fPort] };
  }
}

function measurement(bytes, height_cm) {
  var distance_cm = ((bytes[0] << 8) | bytes[1]) / 10;
  var data = {
    distance_cm: distance_cm,
    temperature: ((bytes[2] << 24) >> 16 | bytes[3]) / 10,
    battery: bytes[4] / 50
  };
  var warnings = [];
  if (height_cm > 0) {
    data.level_cm = Math.max(0, height_cm - distance_cm);
  } else {
    warnings.push("no height_cm, so no level");
  }
  if (data.battery < 2.8) {
    warnings.push("battery low");
  }
  return { data: data, warnings: warnings };
}
