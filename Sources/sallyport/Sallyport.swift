import ArgumentParser
import CSallyport
import Glibc

/// The command line. Every command is a struct whose properties are its options.
@main
struct Sallyport: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sallyport",
    abstract: "Consoles of Proxmox VE, in a browser and in your terminal.",
    discussion: """
      Sallyport stands between people and a Proxmox VE cluster: it opens the console of a node, a VM or a \
      container for whoever holds a one-time link, and no PVE credential ever leaves it.

      See it work, without a cluster:
        sallyport demo

      Serve a real cluster:
        sallyport serve --config /etc/sallyport/sallyport.yaml

      Without a gateway, straight to a node:
        export SALLYPORT_PVE_TOKEN_SECRET=…
        sallyport console lxc/200 --host pve1.example --token-id root@pam!cli

      Through a gateway:
        export SALLYPORT_API_KEY=…
        sallyport console lxc/200 --gateway https://consoles.example

      Run a command in a guest, copy a file into it:
        sallyport exec web1 -- uname -a
        sallyport cp site.conf web1:/etc/nginx/conf.d/

      A target is node/NAME, qemu/VMID, lxc/VMID or a guest's name. Secrets come from files or the environment, \
      never from the command line, where every user of the machine could read them.
      """,
    version: "0.1.0",
    subcommands: [
      Demo.self, Serve.self, ConsoleCommand.self, VNCCommand.self, LinkCommand.self,
      ExecCommand.self, CopyCommand.self, JobsCommand.self, AttachCommand.self,
      InventoryCommand.self, APICommand.self, NodeCommand.self,
    ])

  static func main() async {
    signal(SIGPIPE, SIG_IGN)
    _ = sp_openssl_outlives_exit()
    do {
      var command = try parseAsRoot()
      if var asynchronous = command as? any AsyncParsableCommand {
        try await asynchronous.run()
      } else {
        try command.run()
      }
    } catch let failure as Failure {
      sp_terminal_restore()
      printError(failure.text)
      Glibc.exit(failure.status.rawValue)
    } catch {
      sp_terminal_restore()
      exitAsParser(error)
    }
  }

  /// The parser's own ending: help, version, usage errors. Commands whose exit code is a guest's have 201 for the last.
  private static func exitAsParser(_ error: any Error) -> Never {
    let name = CommandLine.arguments.dropFirst().first ?? ""
    guard ["exec", "attach"].contains(name), exitCode(for: error) == .validationFailure else {
      exit(withError: error)
    }
    let message = fullMessage(for: error)
    let forgot =
      name == "exec" && message.contains("nexpected argument")
      ? "  → What is to be run stands behind --: sallyport exec TARGET -- PROGRAM …\n" : ""
    printError(message + "\n" + forgot)
    Glibc.exit(ExitStatus.execUsage.rawValue)
  }
}
