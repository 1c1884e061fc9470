import COpenSSL

/// What a viewer must answer to a challenge under RFB security type 2: the 16 bytes encrypted with DES, block
/// by block, under the password's first eight bytes, each with its bits in reverse order.
func vncResponse(challenge: [UInt8], password: [UInt8]) -> [UInt8] {
  var key = Array(password.prefix(8)) + [UInt8](repeating: 0, count: max(0, 8 - password.count))
  for i in key.indices {
    var reversed: UInt8 = 0
    for bit in 0..<8 where key[i] & (1 << bit) != 0 { reversed |= 0x80 >> bit }
    key[i] = reversed
  }
  guard challenge.count == 16, let context = EVP_CIPHER_CTX_new() else { return [] }
  defer { EVP_CIPHER_CTX_free(context) }
  // Single DES is in OpenSSL's legacy provider; triple DES with one key three times is the same function.
  guard EVP_EncryptInit_ex(context, EVP_des_ede3_ecb(), nil, key + key + key, nil) == 1 else {
    return []
  }
  EVP_CIPHER_CTX_set_padding(context, 0)
  var out = [UInt8](repeating: 0, count: 32)
  var length: Int32 = 0
  guard EVP_EncryptUpdate(context, &out, &length, challenge, 16) == 1 else { return [] }
  return Array(out.prefix(16))
}

/// A password as the mint endpoints draw them: eight characters from `!` to `` ` ``, so `%`, `&`, `+`, `:` and
/// `;` are among them.
func randomVNCPassword() -> String {
  String(decoding: randomBytes(8).map { 0x21 + $0 % 64 }, as: UTF8.self)
}
