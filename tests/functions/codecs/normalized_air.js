// The second step of The Things Stack: decodeUplink, then normalizeUplink on what it returned.
function decodeUplink(input) {
  var warnings = [];
  if (input.bytes.length !== 5) {
    return { errors: ["expected 5 bytes, got " + input.bytes.length] };
  }
  var data = {
    temperature: ((input.bytes[0] << 24 >> 16) | input.bytes[1]) / 100,
    humidity: input.bytes[2],
    battery: (input.bytes[3] << 8 | input.bytes[4]) / 1000,
  };
  if (data.battery < 2.5) {
    warnings.push("low battery");
  }
  return { data: data, warnings: warnings };
}

function normalizeUplink(input) {
  if (input.data.humidity > 100) {
    return { errors: ["humidity out of range"] };
  }
  return {
    data: {
      air: { temperature: input.data.temperature, relativeHumidity: input.data.humidity },
      battery: input.data.battery
    },
    warnings: input.data.temperature < -40 ? ["below the sensor's range"] : []
  };
}

function encodeDownlink(input) {
  return { bytes: [input.data.on ? 1 : 0], fPort: 1 };
}
