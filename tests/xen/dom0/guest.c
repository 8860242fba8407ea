/* All that runs in a guest: it counts in its memory and on every disk, and says itself whether the two are of one instant.
 *
 * Each round adds one to the counter in memory, then writes it to every disk in turn, as the boot sector of the sandbox
 * does: to a ring of 1024 sectors that keeps what it wrote before, then to sector 1; little-endian words, counter and
 * magic. Before a round it reads sector 1 of every disk back, now and then the whole ring. What a disk has lost of what
 * memory knows was written, or has of what was never written yet, is one more "torn". Once a second it prints a line:
 *   G life=ID start=N n=N disks=N torn=N sum=ok|bad files=N gap=MS
 * life: chosen at boot. start: what the disks held then. n: every disk has it, synced. sum: of memory filled at boot.
 * files: written by load.c. gap: the longest this guest has stood still, milliseconds of CLOCK_BOOTTIME, since it last
 * said so.
 * Its command line: disks=N that count, files=DEVICE with an ext4 to write to, dirty=N MiB of memory to change a second.
 */
#define _GNU_SOURCE
#include "guest.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SECTOR = 512, FIRST = 64, RING = 1024, MOST = 8, FILL = 8 << 20 };
static const uint32_t MAGIC = 0x544e5544;

volatile struct page *page;
static int disk[MOST], disks;
static uint32_t start;
static unsigned char *sector, *ring;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_BOOTTIME, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static uint32_t word(const unsigned char *at) {
  uint32_t both[2];
  memcpy(both, at, 8);
  return both[1] == MAGIC ? both[0] : 0;
}

static uint32_t held(int of, off_t at) {
  memset(sector, 0, SECTOR);
  return pread(of, sector, SECTOR, at * SECTOR) == SECTOR ? word(sector) : 0;
}

static void hold(int of, off_t at, uint32_t counter) {
  uint32_t both[2] = {counter, MAGIC};
  memset(sector, 0, SECTOR);
  memcpy(sector, both, 8);
  if (pwrite(of, sector, SECTOR, at * SECTOR) != SECTOR) {
    page->torn++;
    printf("G a write failed\n");
  }
}

static void torn(int which, const char *what, uint32_t has, uint32_t should) {
  page->torn++;
  printf("G disk %d: %s %u, not %u\n", which, what, has, should);
}

static void look(int which, uint32_t counter, int whole) {
  uint32_t has = held(disk[which], 1);
  if (has != counter && counter != start) torn(which, "sector 1 holds", has, counter);
  if (!whole || pread(disk[which], ring, RING * SECTOR, (off_t)FIRST * SECTOR) != RING * SECTOR) return;
  for (uint32_t n = counter; n > start && n > counter - RING / 2; n--)
    if ((has = word(ring + n % RING * SECTOR)) != n) torn(which, "the ring has lost what was written:", has, n);
  /* A guest that was destroyed may have begun a round that no sector 1 tells of. */
  for (uint32_t n = counter + (counter == start ? 2 : 1); n < counter + RING / 2; n++)
    if (word(ring + n % RING * SECTOR) == n) torn(which, "the ring holds what is to come:", n, 0);
}

static void load(const char *list) {
  char name[64], path[96];
  FILE *file = fopen(list, "r");
  while (file && fscanf(file, "%63s", name) == 1) {
    snprintf(path, sizeof path, "/modules/%s.ko", name);
    int module = open(path, O_RDONLY);
    if (syscall(SYS_finit_module, module, "", 0)) printf("G %s cannot be loaded\n", name);
    close(module);
  }
  if (file) fclose(file);
}

/* Give back the memory of files that are not needed any more: a small guest has none to spare. */
static void drop(const char *list) {
  char name[64], path[96];
  FILE *file = fopen(list, "r");
  while (file && fscanf(file, "%63s", name) == 1) {
    snprintf(path, sizeof path, "/modules/%s.ko", name);
    unlink(path);
  }
  if (file) fclose(file);
}

/* Open the `count` disks that the command line speaks of, xvda to xvdh or sda to sdh. */
static void find(int count, const char *prefix) {
  for (int letter = 'a'; letter < 'a' + MOST && disks < count; letter++) {
    char path[16];
    snprintf(path, sizeof path, "/dev/%s%c", prefix, letter);
    for (int tries = 0; tries < 1000 && (disk[disks] = open(path, O_RDWR | O_DIRECT | O_SYNC)) < 0; tries++) usleep(10000);
    if (disk[disks] < 0) printf("G there is no %s\n", path);
    else disks++;
  }
}

static uint64_t filling(uint64_t *memory, int fill) {
  uint64_t seed = 88172645463325252ull, differ = 0;
  for (size_t i = 0; i < FILL / 8; i++) {
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    if (fill) memory[i] = seed;
    differ |= memory[i] ^ seed;
  }
  return differ;
}

/* Keep the longest that the guest stands still, beside whatever waits for a disk meanwhile. */
static void tick(void) {
  if (fork()) return;
  for (double last = now(), this;; last = this) {
    usleep(10000);
    this = now();
    uint32_t gap = (this - last) * 1e3;
    if (gap > page->gap) page->gap = gap;
  }
}

int main(int argc, char **argv) {
  if (strstr(argv[0], "poweroff") || strstr(argv[0], "reboot")) {
    sync();
    return reboot(strstr(argv[0], "poweroff") ? RB_POWER_OFF : RB_AUTOBOOT);
  }
  char line[4096] = "", *said;
  mount("proc", "/proc", "proc", 0, 0);
  mount("sysfs", "/sys", "sysfs", 0, 0);
  mount("dev", "/dev", "devtmpfs", 0, 0);
  int console = open("/dev/hvc0", O_RDWR);
  if (console < 0) console = open("/dev/console", O_RDWR);
  for (int fd = 0; fd < 3; fd++) dup2(console, fd);
  setvbuf(stdout, NULL, _IOLBF, 0);
  int file = open("/proc/sys/kernel/sysrq", O_WRONLY); /* so that `xl sysrq NAME c` ends it badly */
  if (file < 0 || write(file, "1", 1) != 1) printf("G no sysrq\n");
  file = open("/proc/cmdline", O_RDONLY);
  if (read(file, line, sizeof line - 1) < 0) line[0] = 0;
  int count = (said = strstr(line, "disks=")) ? atoi(said + 6) : 1;
  int emulated = strstr(line, "xen_emul_unplug=never") != NULL;
  load(emulated ? "/modules/emulated" : "/modules/pv");
  if (strstr(line, "files=")) load("/modules/ext4");
  for (int i = 0; i < 3; i++) drop((const char *[]){"/modules/emulated", "/modules/pv", "/modules/ext4"}[i]);
  find(count, emulated ? "sd" : "xvd");

  void *memory = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 1;
  page = memory;
  if (posix_memalign((void **)&sector, 4096, 4096) || posix_memalign((void **)&ring, 4096, RING * SECTOR)) return 1;
  if (posix_memalign(&memory, 4096, FILL)) return 1;
  filling(memory, 1);
  uint32_t least = UINT32_MAX, has;
  for (int each = 0; each < disks; each++) {
    has = held(disk[each], 1);
    start = has > start ? has : start;
    least = has < least ? has : least;
  }
  page->disks = disks;
  if (disks && start - least > 1) torn(0, "the disks differ:", least, start);
  page->state = (uint64_t)start << 8 | disks;
  /* Spelt so that the program's own file, which is in memory too, does not hold it. */
  for (int i = 0; i < 16; i++) page->name[i] = "epntobq!hvftu!qh"[i] - 1;

  char device[16];
  if ((said = strstr(line, "files=")) && sscanf(said, "files=%15s", device) == 1) write_files(device);
  if ((said = strstr(line, "dirty="))) dirty_memory(atoi(said + 6));

  unsigned life = (unsigned)(now() * 1e6) ^ (unsigned)time(NULL) << 20, bad = 0;
  double next = now();
  tick();
  for (uint32_t counter = start;; counter++) {
    int whole = counter % 8 == 0 || page->gap > 500;
    for (int each = 0; each < disks; each++) look(each, counter, whole);
    if (counter % 16 == 0) bad |= filling(memory, 0) != 0;
    page->state = (uint64_t)(counter + 1) << 8;
    for (int each = 0; each < disks; each++) {
      hold(disk[each], FIRST + (counter + 1) % RING, counter + 1);
      hold(disk[each], 1, counter + 1);
      page->state++;
    }
    if (now() >= next) {
      printf("G life=%08x start=%u n=%u disks=%d torn=%u sum=%s files=%u gap=%d\n", life, start, counter + 1, disks,
             page->torn, bad ? "bad" : "ok", page->files, page->gap);
      page->gap = 0, next = now() + 1;
    }
    usleep(100000);
  }
}
