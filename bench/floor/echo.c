/* The floor: a WebSocket server on one epoll loop that sends every message back and does nothing else.
 *
 * It prints its port and ends with its standard input. RFC 6455: the handshake's answer is SHA-1 and base64 of the
 * client's key; a client's frames are masked, a server's are not. No extensions, no fragments, messages up to 64 KB:
 * the load generator sends none else. What a server must spend on a message beyond this is its own.
 *
 *   cc -O2 -o echo bench/floor/echo.c && ./echo
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, BUFFER = 1 << 17, HEADER = 14 };

struct line {
    int fd;
    int upgraded;
    size_t held; /* bytes in data */
    uint8_t data[4096];
};

static uint8_t in[BUFFER], out[BUFFER];
static int standard_input = 0;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static uint32_t rotate(uint32_t value, int bits) { return value << bits | value >> (32 - bits); }

/* FIPS 180-4, for less than 120 bytes. */
static void sha1(const char *text, uint8_t digest[20]) {
    uint8_t block[128] = {0};
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0}, w[80];
    size_t length = strlen(text), size = length < 56 ? 64 : 128;
    memcpy(block, text, length);
    block[length] = 0x80;
    for (int n = 0; n < 4; n++) block[size - 1 - n] = (uint8_t)(length * 8 >> 8 * n);
    for (size_t start = 0; start < size; start += 64) {
        for (int n = 0; n < 16; n++) {
            const uint8_t *b = block + start + 4 * n;
            w[n] = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
        }
        for (int n = 16; n < 80; n++) w[n] = rotate(w[n - 3] ^ w[n - 8] ^ w[n - 14] ^ w[n - 16], 1);
        uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int n = 0; n < 80; n++) {
            uint32_t f, k;
            if (n < 20) f = (b & c) | (~b & d), k = 0x5A827999;
            else if (n < 40) f = b ^ c ^ d, k = 0x6ED9EBA1;
            else if (n < 60) f = (b & c) | (b & d) | (c & d), k = 0x8F1BBCDC;
            else f = b ^ c ^ d, k = 0xCA62C1D6;
            uint32_t next = rotate(a, 5) + f + e + k + w[n];
            e = d, d = c, c = rotate(b, 30), b = a, a = next;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
    }
    for (int n = 0; n < 20; n++) digest[n] = (uint8_t)(h[n / 4] >> (24 - 8 * (n % 4)));
}

static void base64(const uint8_t *data, size_t length, char *text) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t at = 0;
    for (size_t n = 0; n < length; n += 3) {
        uint32_t three = (uint32_t)data[n] << 16;
        if (n + 1 < length) three |= (uint32_t)data[n + 1] << 8;
        if (n + 2 < length) three |= data[n + 2];
        text[at++] = letters[three >> 18];
        text[at++] = letters[three >> 12 & 63];
        text[at++] = n + 1 < length ? letters[three >> 6 & 63] : '=';
        text[at++] = n + 2 < length ? letters[three & 63] : '=';
    }
    text[at] = 0;
}

/* Everything goes out at once or the line is given up: the other end reads as fast as it writes. */
static int reply(int fd, const void *data, size_t length) {
    return send(fd, data, length, MSG_NOSIGNAL) == (ssize_t)length;
}

static int upgrade(struct line *line) {
    char key[128] = "", accept[32], answer[256];
    line->data[line->held < sizeof line->data ? line->held : sizeof line->data - 1] = 0;
    char *end = strstr((char *)line->data, "\r\n\r\n");
    if (!end) return line->held < sizeof line->data - 1;
    char *found = strcasestr((char *)line->data, "\r\nsec-websocket-key:");
    uint8_t digest[20];
    if (!found || sscanf(found + 20, " %60[^\r\n ]", key) != 1) return 0;
    strcat(key, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    sha1(key, digest);
    base64(digest, sizeof digest, accept);
    int length = snprintf(answer, sizeof answer,
                          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Accept: %s\r\n\r\n", accept);
    size_t used = (size_t)(end + 4 - (char *)line->data);
    line->upgraded = 1;
    line->held -= used;
    memmove(line->data, line->data + used, line->held);
    return reply(line->fd, answer, (size_t)length);
}

/* Sends back all whole frames of `data`. Returns the bytes used, or -1 to close. */
static ssize_t echo(int fd, uint8_t *data, size_t length) {
    size_t at = 0, made = 0;
    while (length - at >= 6) {
        uint8_t *frame = data + at, *mask;
        size_t head = 2, size = frame[1] & 127;
        if (!(frame[1] & 128) || size == 127 || (frame[0] & 15) == 8) return -1;
        if (size == 126) {
            if (length - at < 8) break;
            size = (size_t)frame[2] << 8 | frame[3];
            head = 4;
        }
        if (length - at < head + 4 + size) break;
        if (made + size + HEADER > sizeof out) {
            if (!reply(fd, out, made)) return -1;
            made = 0;
        }
        mask = frame + head;
        memcpy(out + made, frame, head);
        out[made + 1] &= 127;
        made += head;
        for (size_t n = 0; n < size; n++) out[made + n] = frame[head + 4 + n] ^ mask[n & 3];
        made += size;
        at += head + 4 + size;
    }
    if (made && !reply(fd, out, made)) return -1;
    return (ssize_t)at;
}

static int serve(struct line *line) {
    if (!line->upgraded) {
        ssize_t got = recv(line->fd, line->data + line->held, sizeof line->data - 1 - line->held, 0);
        if (got <= 0) return got < 0 && errno == EAGAIN;
        line->held += (size_t)got;
        if (!upgrade(line)) return 0;
        if (!line->upgraded || !line->held) return 1;
        memcpy(in, line->data, line->held);
    } else {
        memcpy(in, line->data, line->held);
        ssize_t got = recv(line->fd, in + line->held, sizeof in - line->held, 0);
        if (got <= 0) return got < 0 && errno == EAGAIN;
        line->held += (size_t)got;
    }
    ssize_t used = echo(line->fd, in, line->held);
    if (used < 0 || line->held - (size_t)used > sizeof line->data) return 0;
    line->held -= (size_t)used;
    memcpy(line->data, in + used, line->held);
    return 1;
}

int main(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    struct epoll_event events[EVENTS], event = {.events = EPOLLIN};
    int yes = 1, loop = epoll_create1(0), door = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (loop < 0 || door < 0 || bind(door, (void *)&address, size) || listen(door, 1024)) die("listen");
    if (getsockname(door, (void *)&address, &size)) die("getsockname");
    epoll_ctl(loop, EPOLL_CTL_ADD, door, &event);
    event.data.ptr = &standard_input;
    epoll_ctl(loop, EPOLL_CTL_ADD, 0, &event);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(loop, events, EVENTS, -1);
        if (ready < 0 && errno != EINTR) die("epoll_wait");
        for (int n = 0; n < ready; n++) {
            struct line *line = events[n].data.ptr;
            if (events[n].data.ptr == &standard_input) {
                if (read(0, in, sizeof in) <= 0) return 0;
            } else if (!line) {
                int fd = accept4(door, NULL, NULL, SOCK_NONBLOCK);
                if (fd < 0) continue;
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
                line = calloc(1, sizeof *line);
                if (!line) die("calloc");
                line->fd = fd;
                event.data.ptr = line;
                if (epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
            } else if (!serve(line)) {
                close(line->fd);
                free(line);
            }
        }
    }
}
