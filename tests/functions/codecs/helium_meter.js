// The old console's contract: three arguments, the third the whole uplink, any value returned.
function Decoder(bytes, port, uplink_info) {
  if (uplink_info) {
    var who = uplink_info["dev_eui"];
    var hotspot = uplink_info["hotspots"][0];
  }
  if (port === 100) return bytes.map(function (b) { return ("0" + b.toString(16)).slice(-2); }).join("");
  if (port === 101) return bytes.length > 0;
  if (bytes.length === 0) return null;
  return { device: who, rssi: hotspot.rssi, labels: uplink_info.metadata.labels.length,
           pulses: (bytes[0] << 24 | bytes[1] << 16 | bytes[2] << 8 | bytes[3]) >>> 0 };
}
