/* What the same work costs without Clawmend: the system calls alone. One word says which; times come out in ns.

   stat N       names on stdin ("folder\tname" a line): N rounds of one fstatat each, the folders held open
   tail N       names on stdin: N rounds of open, fstat, pread of the last 4 KiB, close
   cold N       the same, the page cache emptied of the files before each round (which is not in its time)
   read N FILE  N times the whole file
   publish N FOLDER SIZE   N times: write SIZE bytes beside, fsync, rename, fsync of the folder
*/
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static long long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void must(int held, const char *what) {
  if (!held) {
    perror(what);
    exit(1);
  }
}

struct file {
  int folder;
  char *name;
};

static struct file *files;
static size_t count;

static void read_names(void) {
  char *line = NULL, *last = strdup("");
  size_t room = 0;
  ssize_t length;
  int folder = -1;
  while ((length = getline(&line, &room, stdin)) > 0) {
    line[strcspn(line, "\n")] = 0;
    char *name = strchr(line, '\t');
    must(name != NULL, "a line has no tab");
    *name++ = 0;
    if (strcmp(line, last)) {
      folder = open(line, O_RDONLY | O_DIRECTORY);
      must(folder >= 0, line);
      last = strdup(line);
    }
    files = realloc(files, (count + 1) * sizeof *files);
    files[count].folder = folder;
    files[count++].name = strdup(name);
  }
}

static void stat_all(void) {
  struct stat st;
  for (size_t i = 0; i < count; i++) must(!fstatat(files[i].folder, files[i].name, &st, AT_SYMLINK_NOFOLLOW), files[i].name);
}

static void tail_all(void) {
  static char block[4096];
  struct stat st;
  for (size_t i = 0; i < count; i++) {
    int fd = openat(files[i].folder, files[i].name, O_RDONLY | O_NOFOLLOW);
    must(fd >= 0, files[i].name);
    must(!fstat(fd, &st), "fstat");
    off_t from = st.st_size > 4096 ? st.st_size - 4096 : 0;
    must(pread(fd, block, 4096, from) > 0, "pread");
    close(fd);
  }
}

static void forget_all(void) {
  for (size_t i = 0; i < count; i++) {
    int fd = openat(files[i].folder, files[i].name, O_RDONLY | O_NOFOLLOW);
    must(fd >= 0, files[i].name);
    must(!posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), "fadvise");
    close(fd);
  }
}

static void read_whole(const char *path) {
  int fd = open(path, O_RDONLY);
  struct stat st;
  must(fd >= 0 && !fstat(fd, &st), path);
  char *data = malloc(st.st_size);
  for (off_t at = 0; at < st.st_size;) {
    ssize_t got = read(fd, data + at, st.st_size - at);
    must(got > 0, "read");
    at += got;
  }
  free(data);
  close(fd);
}

static void publish(int folder, const char *data, size_t size) {
  int fd = openat(folder, "beside", O_WRONLY | O_CREAT | O_TRUNC, 0600);
  must(fd >= 0, "beside");
  for (size_t at = 0; at < size;) {
    ssize_t put = write(fd, data + at, size - at);
    must(put > 0, "write");
    at += put;
  }
  must(!fsync(fd), "fsync");
  close(fd);
  must(!renameat(folder, "beside", folder, "store"), "rename");
  must(!fsync(folder), "fsync of the folder");
}

int main(int argc, char **argv) {
  must(argc >= 3, "which floor, and how often?");
  int rounds = atoi(argv[2]), folder = -1;
  size_t size = 0;
  char *data = NULL;
  int cold = !strcmp(argv[1], "cold"), tail = cold || !strcmp(argv[1], "tail");
  if (tail || !strcmp(argv[1], "stat")) read_names();
  if (!strcmp(argv[1], "publish")) {
    folder = open(argv[3], O_RDONLY | O_DIRECTORY);
    must(folder >= 0, argv[3]);
    size = strtoul(argv[4], NULL, 10);
    data = memset(malloc(size), 'x', size);
  }
  for (int round = 0; round < rounds; round++) {
    if (cold) forget_all();
    long long began = now();
    if (tail) tail_all();
    else if (!strcmp(argv[1], "stat")) stat_all();
    else if (!strcmp(argv[1], "read")) read_whole(argv[3]);
    else publish(folder, data, size);
    printf("%lld\n", now() - began);
  }
  return 0;
}
