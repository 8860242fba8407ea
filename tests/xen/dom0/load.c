/* Work for a guest to be at while a snapshot is taken: files in an ext4, and pages of memory that change.
 *
 * A file holds its number, then 64 KiB made from it; files are synced, renamed over one another, and read back. What has
 * other contents than its number says is one more "torn".
 */
#define _GNU_SOURCE
#include "guest.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

enum { FILES = 24, WORDS = 8192, PAGE = 4096 };

static void contents(uint64_t number, uint64_t *words) {
  uint64_t seed = number * 2862933555777941757ull + 3037000493ull;
  words[0] = number;
  for (int i = 1; i < WORDS; i++) {
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    words[i] = seed;
  }
}

static void read_back(uint64_t slot) {
  static uint64_t has[WORDS], should[WORDS];
  char path[64];
  snprintf(path, sizeof path, "/files/%d", (int)slot);
  int file = open(path, O_RDONLY);
  if (file < 0) return;
  posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED); /* from the disk, not from memory */
  ssize_t got = read(file, has, sizeof has);
  close(file);
  contents(has[0], should);
  if (got == sizeof has && has[0] % FILES == slot && !memcmp(has, should, sizeof has)) return;
  page->torn++;
  printf("G file %d is not what was written\n", (int)slot);
}

void write_files(const char *device) {
  static uint64_t words[WORDS];
  if (fork()) return;
  mkdir("/files", 0700);
  if (mount(device, "/files", "ext4", 0, 0)) {
    page->torn++;
    printf("G %s cannot be mounted: %m\n", device);
    exit(1);
  }
  for (uint64_t slot = 0; slot < FILES; slot++) read_back(slot);
  for (uint64_t number = (uint64_t)time(0) << 20;; number++) {
    char path[64];
    snprintf(path, sizeof path, "/files/%d", (int)(number % FILES));
    int file = open("/files/new", O_CREAT | O_TRUNC | O_WRONLY, 0600);
    contents(number, words);
    if (file < 0 || write(file, words, sizeof words) != sizeof words || fsync(file) || rename("/files/new", path)) {
      page->torn++;
      printf("G a file cannot be written: %m\n");
    }
    close(file);
    page->files++;
    read_back(rand() % FILES);
    usleep(20000);
  }
}

void dirty_memory(int rate) {
  if (fork()) return;
  struct sysinfo has;
  sysinfo(&has);
  uint64_t size = has.totalram * 3 / 8 / PAGE * PAGE;
  unsigned char *region = malloc(size);
  memset(region, 1, size);
  struct timespec begun, now;
  clock_gettime(CLOCK_BOOTTIME, &begun);
  for (uint64_t done = 0;; done++) {
    region[done * PAGE % size]++;
    if (done % 64) continue;
    do { /* so many MiB a second, 256 pages each */
      clock_gettime(CLOCK_BOOTTIME, &now);
      double due = (now.tv_sec - begun.tv_sec + (now.tv_nsec - begun.tv_nsec) / 1e9) * rate * 256;
      if (done < due) break;
      usleep(5000);
    } while (1);
  }
}
