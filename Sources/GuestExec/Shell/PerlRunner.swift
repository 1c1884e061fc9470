/// The program that runs one command on a node, in Perl, which every PVE node has. It owns the terminal: the command
/// has pipes (or a terminal of its own), and what it writes goes out in frames. It leaves no file behind, and takes the
/// command along when the terminal is hung up.
///
/// Toward us: `MAGIC TYPE LENGTH(4) PAYLOAD`, see ``RunnerFrame``. From us: batches, see ``RunnerBatch``. The two
/// windows (bytes of output that we have not taken, bytes of input that the command has not taken) keep pveproxy, which
/// buffers without bound, from having to.
enum PerlRunner {
  /// How many bytes of output it is ahead of us at most.
  static let window = 1 << 20

  /// Reads the program from the terminal: its length, then as its own arguments the magic in hexadecimal, the output
  /// window in bytes, the linger in milliseconds, the grace in milliseconds, whether input comes in hexadecimal, and after how many
  /// seconds without input it takes the caller for gone (0 for never).
  static let loader =
    #"binmode STDIN;$n=shift;$p="";while(length$p<$n){sysread(STDIN,$p,$n-length$p,length$p)||exit}eval$p;die$@"#

  /// The program, without its remarks.
  static let program: [UInt8] = {
    var out: [UInt8] = []
    for line in source.split(separator: "\n") {
      let bare = line.drop { $0 == " " }
      if !bare.isEmpty, !bare.hasPrefix("#") { out += Array(bare.utf8) + [10] }
    }
    return out
  }()

  private static let source = #"""
    use strict; no warnings; use POSIX ();
    my ($magic, $window, $linger, $grace, $hex, $alone) = @ARGV;
    $magic = pack 'H*', $magic;
    $_ /= 1000 for $linger, $grace;
    my ($in, $pid, $exited, $status, $cause) = ('', 0, 0, 0, '');
    my ($fo, $fe, $fi, $pty, %set, @argv);
    my (%sent, %need) = ();
    my ($acked, $ib, $iend, $taken, $told) = (0, '', 0, 0, 0);
    my ($limitAt, $killAt, $lingerAt, $stuckAt, $over, $heard);
    $sent{O} = $sent{E} = 0;
    binmode STDIN; binmode STDOUT;

    sub now { (POSIX::times())[0] / POSIX::sysconf(POSIX::_SC_CLK_TCK()) }

    # One write per frame: whatever else writes on this terminal comes between frames, not into them.
    sub frame {
      my $b = $magic . $_[0] . pack('N', length $_[1]) . $_[1];
      my ($o, $l) = (0, length $b);
      while ($o < $l) {
        my $k = syswrite STDOUT, $b, $l - $o, $o;
        if (defined $k) { $o += $k } elsif ($! != POSIX::EINTR()) { gone() }
      }
    }

    # The processes of the command's session: what it started, unless that began a session of its own.
    sub members {
      my @m;
      opendir my $d, '/proc' or return $exited ? () : $pid;
      for my $p (grep { /^\d+$/ } readdir $d) {
        open my $f, '<', "/proc/$p/stat" or next;
        my $s = <$f>;
        $s =~ s/.*\) //s;
        my @f = split ' ', $s;
        push @m, $p if $f[3] == $pid && $f[0] ne 'Z';
      }
      @m
    }
    sub sweep { kill $_[0], -$pid unless $exited; kill $_[0], members() }
    sub reap {
      return if !$pid || $exited || waitpid($pid, POSIX::WNOHANG()) != $pid;
      ($exited, $status) = (1, $?);
      for (['O', $fo], ['E', $fe]) {
        my $n = pack 'i', 0;
        $need{$_->[0]} = $_->[1] && ioctl($_->[1], 0x541B, $n) ? unpack('i', $n) : 0;
      }
    }

    # The terminal is gone: so is everything else.
    sub gone {
      $SIG{$_} = 'IGNORE' for qw(HUP TERM INT QUIT PIPE);
      if ($pid && !$over) {
        sweep('HUP'); sweep('TERM'); sweep('CONT');
        for (1 .. $grace * 20) { reap(); last unless members(); select undef, undef, undef, 0.05 }
        sweep('KILL');
      }
      POSIX::_exit(0);
    }
    $SIG{$_} = \&gone for qw(HUP TERM INT QUIT);
    $SIG{PIPE} = 'IGNORE';
    $SIG{CHLD} = sub { };

    sub stop {
      return if $over || !$pid || $exited || $cause;
      $cause = $_[0];
      sweep('TERM'); sweep('CONT');
      $killAt = now() + $grace;
    }

    sub unblock { fcntl $_[0], POSIX::F_SETFL(), POSIX::O_NONBLOCK() | fcntl $_[0], POSIX::F_GETFL(), 0 }
    sub size { ioctl $pty, 0x5414, pack 'S4', reverse(unpack 'nn', $_[0]), 0, 0 }

    sub start {
      my (@in, @out, @err, $name);
      if (exists $set{t}) {
        my $n = pack 'i', 0;
        open $pty, '+<', '/dev/ptmx' or return frame('f', 'pty ' . ($! + 0));
        binmode $pty;
        ioctl $pty, 0x40045431, $n;
        ioctl $pty, 0x80045430, $n or return frame('f', 'pty ' . ($! + 0));
        $name = '/dev/pts/' . unpack 'i', $n;
        size($set{t});
        # Held until the command has it: a terminal without a holder reads as ended.
        open $in[0], '+<', $name or return frame('f', 'pty ' . ($! + 0));
      } else {
        pipe $out[0], $out[1]; pipe $err[0], $err[1];
        fcntl $_, 1031, 1 << 18 for $out[0], $err[0];
        if ($set{i}) { pipe $in[0], $in[1] } else { open $in[0], '<', '/dev/null' }
      }
      pipe my $er, my $ew;
      $pid = fork;
      return frame('f', 'fork ' . ($! + 0)) unless defined $pid;
      if (!$pid) {
        $SIG{$_} = 'DEFAULT' for qw(HUP TERM INT QUIT PIPE CHLD);
        my $bad = sub { syswrite $ew, "$_[0] " . ($! + 0); POSIX::_exit(127) };
        POSIX::setsid();
        if ($name) {
          open my $s, '+<', $name or $bad->('pty');
          ioctl $s, 0x540E, 0;
          POSIX::dup2(fileno $s, $_) for 0, 1, 2;
          $ENV{TERM} = 'xterm-256color';
        } else {
          POSIX::dup2(fileno $in[0], 0); POSIX::dup2(fileno $out[1], 1); POSIX::dup2(fileno $err[1], 2);
        }
        if (defined $set{u}) {
          my @p = getpwnam $set{u} or do { $! = 0; $bad->('user') };
          my %g = ($p[3] => 1);
          while (my @e = getgrent) { $g{$e[2]} = 1 if grep { $_ eq $set{u} } split ' ', $e[3] }
          $) = join ' ', $p[3], keys %g;
          POSIX::setgid($p[3]); POSIX::setuid($p[2]);
          $bad->('user') if $> != $p[2];
          @ENV{qw(USER LOGNAME HOME SHELL)} = @p[0, 0, 7, 8];
          chdir $p[7] or chdir '/';
        }
        if (defined $set{d}) { chdir $set{d} or $bad->('chdir') }
        for (@{$set{e} || []}) { my ($k, $v) = split /=/, $_, 2; $ENV{$k} = $v }
        exec { $argv[0] } @argv;
        $bad->('exec');
      }
      close $_ for grep { $_ } $ew, @in[0], $out[1], $err[1];
      my $why = '';
      while (1) { my $k = sysread $er, $why, 64, length $why; last if defined $k ? !$k : $! != POSIX::EINTR() }
      if (length $why) { waitpid $pid, 0; $pid = 0; return frame('f', $why) }
      ($fo, $fe, $fi) = $name ? ($pty, undef, $pty) : ($out[0], $err[0], $in[1]);
      unblock($_) for grep { $_ } $fo, $fe, $fi;
      $limitAt = now() + $set{l} / 1000 if $set{l};
      frame('s', $pid);
    }

    sub handle {
      my ($t, $p) = @_;
      if ($t eq 'D') { $ib .= $p }
      elsif ($t eq 'A') { $acked = $p }
      elsif ($t eq 'a') { push @argv, $p }
      elsif ($t eq 'e') { push @{$set{e}}, $p }
      elsif ($t =~ /[uditl]/) { $set{$t} = $p }
      elsif ($t eq 'G') { start() }
      elsif ($t eq 'Z') { $iend = 1 }
      elsif ($t eq 'W') { size($p) if $pty }
      elsif ($t eq 'S') { kill $p, -$pid if $pid && !$exited }
      elsif ($t eq 'K') { stop('cancelled') }
      elsif ($t eq 'Q') { $over = 1 if !$pid; gone() }
    }
    sub parse {
      if ($hex) { my $i = rindex $in, "\n"; return if $i < 0; my $h = substr $in, 0, $i + 1, ''; our $raw .= pack 'H*', $_ for split /\n/, $h }
      my $r = $hex ? \our $raw : \$in;
      while (length $$r >= 9) {
        my ($b, $s, $l) = unpack 'a N N', $$r;
        gone() if $b ne 'B';
        last if length($$r) < 9 + $l;
        my $o = 9;
        while ($o < 9 + $l) {
          my ($t, $k) = unpack 'a N', substr $$r, $o, 5;
          handle($t, substr $$r, $o + 5, $k);
          $o += 5 + $k;
        }
        substr $$r, 0, 9 + $l, '';
        frame('b', $s);
      }
    }
    sub forward {
      my ($t, $h) = @_;
      my $k = sysread $$h, my $d, 262144;
      if ($k) { frame($t, $d); $sent{$t} += $k; $need{$t} -= $k if $need{$t} }
      elsif (defined $k || $! != POSIX::EAGAIN() && $! != POSIX::EINTR()) { undef $$h; $need{$t} = 0 }
    }

    $heard = now();
    frame('r', "perl $]");
    while (1) {
      my ($r, $w, $wait) = ('', '', undef);
      vec($r, 0, 1) = 1;
      my $credit = $sent{O} + $sent{E} - $acked < $window;
      if ($credit) { vec($r, fileno $fo, 1) = 1 if $fo; vec($r, fileno $fe, 1) = 1 if $fe }
      if ($fi && !length $ib && $iend) {
        if ($pty) { $ib = "\4"; $taken-- } else { undef $fi }
        $iend = 0;
      }
      vec($w, fileno $fi, 1) = 1 if $fi && length $ib;
      my $t = now();
      if ($exited && !$over) {
        my $all = !$fo && !$fe;
        if (!$all && $need{O} <= 0 && $need{E} <= 0) { $lingerAt ||= $t + $linger; $all = $t >= $lingerAt }
        if ($all) {
          if ($cause) { sweep('KILL') }
          undef $fo; undef $fe; undef $fi; undef $pty;
          my $how = $status & 127 ? 'signal ' . ($status & 127) : 'exit ' . ($status >> 8);
          $over = 1;
          frame('x', "$how $sent{O} $sent{E} $cause");
        }
      }
      elsif ($stuckAt && $t >= $stuckAt && !$over) { $over = 1; frame('x', "stuck 0 $sent{O} $sent{E} $cause") }
      stop('timed-out') if $limitAt && $t >= $limitAt;
      if ($killAt && $t >= $killAt) { sweep('KILL'); undef $killAt; $stuckAt = $t + 5 }
      # A console keeps its shell when the caller goes: who isn't heard of for long is gone.
      gone() if $alone && $t - $heard > $alone;
      $wait = 0.25 if $pid && !$over;
      for ($limitAt, $killAt, $lingerAt) {
        if ($_ && !$over && $_ - $t < ($wait // 60)) { $wait = $_ > $t ? $_ - $t : 0.01 }
      }
      $wait = 0.005 if $pid && !$exited && !$fo && !$fe;
      # Nobody has hung up: the way here is dead.
      $wait = 60 if $over;
      my $n = select $r, $w, undef, $wait;
      POSIX::_exit(0) if $over && !$n;
      reap();
      next if $n <= 0;
      if (vec $r, 0, 1) {
        my $k = sysread STDIN, $in, 65536, length $in;
        $heard = now();
        if ($k) { parse() } elsif (defined $k || $! != POSIX::EINTR()) { gone() }
      }
      forward('O', \$fo) if $fo && vec $r, fileno $fo, 1;
      forward('E', \$fe) if $fe && vec $r, fileno $fe, 1;
      if ($fi && length $ib && vec $w, fileno $fi, 1) {
        my $k = syswrite $fi, $ib, 65536;
        if (defined $k) { substr $ib, 0, $k, ''; $taken += $k }
        elsif ($! != POSIX::EAGAIN() && $! != POSIX::EINTR()) { undef $fi }
      }
      if (!$fi && length $ib) { $taken += length $ib; $ib = '' }
      if ($taken - $told >= 65536 || $taken > $told && !length $ib) { $told = $taken; frame('i', $taken) }
    }
    """#
}
