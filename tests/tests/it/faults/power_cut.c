/* Simulates a power failure of the ext4 file system that holds a directory: unsynced data is lost, and writes fail from then on. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>

#define SHUTDOWN _IOR('X', 125, uint32_t)
#define WITHOUT_FLUSH 2

int main(int count, char **words) {
    uint32_t how = WITHOUT_FLUSH;
    int dir = count < 2 ? -1 : open(words[1], O_RDONLY | O_DIRECTORY);
    if (dir >= 0 && ioctl(dir, SHUTDOWN, &how) == 0) return 0;
    perror("power_cut");
    return 1;
}
