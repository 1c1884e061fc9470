extension PVENode {
  /// Answers a call that nobody wrote a handler for.
  func answerGenerically(_ route: Router.Route, _ schema: OperationSchema, _ arguments: Arguments)
    throws(APIError) -> APIResult
  {
    APIResult(.null)
  }
}
