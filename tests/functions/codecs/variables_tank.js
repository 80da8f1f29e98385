// ChirpStack v3's contract, with the device's variables, which are always text.
function Decode(fPort, bytes, variables) {
  var height = Number(variables.tank_height_cm);
  var distance = bytes[0] * 256 + bytes[1];
  return {
    level_cm: Math.round((height - distance) * 10) / 10,
    fill: (height - distance) / height,
    site: variables["site"] || "unknown",
    names: Object.keys(variables).sort()
  };
}
