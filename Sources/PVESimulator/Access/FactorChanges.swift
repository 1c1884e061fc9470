import ConsoleProtocol

/// Second factors as the API adds, changes and removes them.
extension AccessControl {
  /// What `POST /access/tfa/{userid}` asks for.
  struct NewFactor {
    var type: String
    var description: String?
    var totp: String?
    var value: String?
    var challenge: String?
  }

  /// Adds a factor and gives what the user gets to see, once.
  func addFactor(_ new: NewFactor, to id: String) throws(APIError) -> JSON {
    let answer: JSON
    switch new.type {
    case "totp": answer = try addTOTP(new, to: id)
    case "recovery":
      guard new.totp == nil, new.value == nil, new.challenge == nil else {
        throw .died("generating recovery tokens does not allow additional parameters")
      }
      guard factors[id]?.recovery == nil else { throw .died("user already has recovery keys") }
      let codes = RecoveryCodes.make(at: clock.now)
      factors[id, default: SecondFactors()].recovery = codes
      answer = [
        "id": "recovery",
        "recovery": .array(codes.codes.compactMap { $0.map { .string($0.reveal()) } }),
      ]
    case "yubico": throw .died(yubicoRefusal(of: id))
    default:
      // Neither WebAuthn nor U2F is configured in datacenter.cfg.
      guard new.totp == nil else {
        throw .died("'totp' parameter is invalid for '\(new.type)' entries")
      }
      if new.challenge == nil { _ = try description(of: new) }
      throw .died("no \(new.type) configuration available")
    }
    users[id]?.keys = "x"
    changed(.users, .tfa)
    return answer
  }

  private func description(of new: NewFactor) throws(APIError) -> String {
    guard let text = new.description else {
      throw .died("'description' is required for new entries")
    }
    return text
  }

  private func addTOTP(_ new: NewFactor, to id: String) throws(APIError) -> JSON {
    guard new.challenge == nil else {
      throw .died("'challenge' parameter is invalid for 'totp' entries")
    }
    let description = try description(of: new)
    guard let uri = new.totp, let value = new.value else {
      throw .died("'totp' type requires both 'totp' and 'value' parameters")
    }
    let code: TOTPCode
    do throws(TOTPCode.Malformed) {
      code = try TOTPCode(uri: uri)
    } catch {
      throw .died(error.message)
    }
    guard code.counter(of: value, at: clock.now) != nil else {
      throw .died("failed to verify TOTP challenge")
    }
    let factor = TOTPFactor(
      id: randomUUID(), description: description, created: clock.now, code: code)
    factors[id, default: SecondFactors()].totp.append(factor)
    return ["id": .string(factor.id)]
  }

  private func yubicoRefusal(of id: String) -> String {
    let realm = users[id]?.realm ?? ""
    guard let type = realms[realm]?.requiredFactor else {
      return "no yubico otp configuration available for realm \(realm)"
    }
    return type == "yubico"
      ? "yubico: could not reach the validation server" : "realm is not setup for Yubico OTP"
  }

  /// Changes a TOTP's description, or switches it on or off. Recovery codes have neither.
  func updateFactor(_ factor: String, of id: String, description: String?, isEnabled: Bool?)
    throws(APIError)
  {
    guard let i = factors[id]?.totp.firstIndex(where: { $0.id == factor }) else {
      throw .died("no such entry")
    }
    if let description { factors[id]?.totp[i].description = description }
    if let isEnabled { factors[id]?.totp[i].isEnabled = isEnabled }
    changed(.tfa)
  }

  /// Removes a factor.
  func deleteFactor(_ factor: String, of id: String) throws(APIError) {
    if factor == "recovery", factors[id]?.recovery != nil {
      factors[id]?.recovery = nil
    } else if let i = factors[id]?.totp.firstIndex(where: { $0.id == factor }) {
      factors[id]?.totp.remove(at: i)
    } else {
      throw .died("no such entry")
    }
    if factors[id]?.isEmpty == true {
      factors[id] = nil
      users[id]?.keys = nil
    }
    changed(.users, .tfa)
  }

  /// Unlocks a user's second factors; whether they were locked.
  func unlockFactors(of id: String) throws(APIError) -> Bool {
    guard var factors = factors[id] else { throw .died("no such challenge") }
    let was = factors.unlock(at: clock.now)
    self.factors[id] = factors
    changed(.tfa)
    return was
  }
}
