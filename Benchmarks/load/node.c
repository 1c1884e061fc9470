#include "node.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { LARGEST_BODY = 12 * 1024 };

static const char prefix[] = "/api2/json";

bool node_is_console(const char *method, const char *path) {
  return strcmp(method, "GET") == 0 && strstr(path, "/vncwebsocket") != NULL;
}

static int resources(char *body, size_t capacity) {
  size_t used = (size_t)snprintf(
      body, capacity,
      "{\"data\":[{\"id\":\"node/pve1\",\"type\":\"node\",\"node\":\"pve1\",\"status\":\"online\","
      "\"level\":\"\",\"cpu\":0.1,\"maxcpu\":2,\"mem\":1073741824,\"maxmem\":8589934592,"
      "\"disk\":0,\"maxdisk\":0,\"uptime\":3600}");
  for (int i = 0; i < NODE_GUESTS && used < capacity; i++) {
    used += (size_t)snprintf(
        body + used, capacity - used,
        ",{\"id\":\"qemu/%d\",\"type\":\"qemu\",\"node\":\"pve1\",\"vmid\":%d,\"name\":\"bench%d\","
        "\"status\":\"running\",\"template\":0,\"cpu\":0.1,\"maxcpu\":1,\"mem\":0,"
        "\"maxmem\":268435456,\"disk\":0,\"maxdisk\":0,\"uptime\":3600,\"netin\":0,\"netout\":0,"
        "\"diskread\":0,\"diskwrite\":0}",
        100 + i, 100 + i, i);
  }
  return (int)used + snprintf(body + used, capacity - used, "]}");
}

static int minted(char *body, size_t capacity, int vmid) {
  static atomic_uint counter;
  unsigned number = atomic_fetch_add(&counter, 1);
  unsigned now = (unsigned)time(NULL);
  return snprintf(
      body, capacity,
      "{\"data\":{\"user\":\"root@pam!bench\",\"port\":\"%u\",\"password\":\"ABCDEFGH\","
      "\"ticket\":\"ABCDEFGH:PVEVNC:%08X::%0344u==\",\"upid\":\"UPID:pve1:%08X:%08X:%08X:vncproxy:"
      "%d:root@pam!bench:\",\"cert\":\"\"}}",
      5900 + number % 100, now, number, 1000 + number, number, now, vmid);
}

size_t node_answer(const char *method, const char *path, char *out, size_t capacity) {
  char body[LARGEST_BODY];
  const char *status = "200 OK";
  int vmid = 0, matched = 0, size;
  if (strncmp(path, prefix, sizeof prefix - 1) == 0) path += sizeof prefix - 1;
  sscanf(path, "/nodes/pve1/qemu/%d/%n", &vmid, &matched);
  const char *guest = matched > 0 ? path + matched : "";

  if (strncmp(path, "/version", 8) == 0) {
    size = snprintf(
        body, sizeof body,
        "{\"data\":{\"version\":\"9.2.11\",\"release\":\"9.2\",\"repoid\":\"14a22df3\"}}");
  } else if (strncmp(path, "/cluster/resources", 18) == 0) {
    size = resources(body, sizeof body);
  } else if (strncmp(guest, "status/current", 14) == 0) {
    size = snprintf(
        body, sizeof body,
        "{\"data\":{\"vmid\":%d,\"name\":\"bench%d\",\"status\":\"running\","
        "\"qmpstatus\":\"running\",\"cpus\":1,\"cpu\":0.1,\"mem\":0,\"maxmem\":268435456,"
        "\"uptime\":3600}}",
        vmid, vmid - 100);
  } else if (strncmp(guest, "config", 6) == 0) {
    size = snprintf(
        body, sizeof body,
        "{\"data\":{\"name\":\"bench%d\",\"vga\":\"std\",\"memory\":\"256\",\"ostype\":\"l26\","
        "\"digest\":\"0000000000000000000000000000000000000000\"}}",
        vmid - 100);
  } else if (strncmp(guest, "vncproxy", 8) == 0 && strcmp(method, "POST") == 0) {
    size = minted(body, sizeof body, vmid);
  } else if (strncmp(path, "/nodes/pve1/tasks/", 18) == 0 && strstr(path, "/log") != NULL) {
    size = snprintf(body, sizeof body, "{\"total\":1,\"data\":[{\"n\":1,\"t\":\"TASK OK\"}]}");
  } else if (strncmp(path, "/nodes/pve1/tasks/", 18) == 0 && strstr(path, "/status") != NULL) {
    size = snprintf(
        body, sizeof body,
        "{\"data\":{\"node\":\"pve1\",\"type\":\"vncproxy\",\"status\":\"stopped\","
        "\"exitstatus\":\"OK\",\"pid\":1,\"pstart\":1,\"starttime\":1,\"id\":\"100\","
        "\"user\":\"root@pam\"}}");
  } else if (strcmp(method, "DELETE") == 0) {
    size = snprintf(body, sizeof body, "{\"data\":null}");
  } else {
    status = "501 Not Implemented";
    size = snprintf(
        body, sizeof body, "{\"data\":null,\"message\":\"Method '%s %.200s' not implemented\\n\"}",
        method, path);
  }
  return (size_t)snprintf(
      out, capacity,
      "HTTP/1.1 %s\r\nServer: pve-api-daemon/3.0\r\nCache-Control: max-age=0\r\n"
      "Content-Type: application/json;charset=UTF-8\r\nContent-Length: %d\r\n\r\n%.*s",
      status, size, size, body);
}
