/* The lane: reads media sockets, and counts the ordinary messages of a call without a Python object for each.

Nearly all that a phone line brings is the next 20 ms of audio. Such a message is taken here: read, unmasked, parsed,
checked against what its line allows, and its audio kept until a piece is complete, which then goes to the call. All
else, and all of a line that is not armed, is handed on byte by byte as it came, frame after frame, to the WebSocket
parser in Python. So this file knows of no error, no close and no event: it only has to be sure of what it takes.

What is sure: a final, masked, unfragmented text frame (RFC 6455, section 5.2) with plain ASCII and no escapes, whose
JSON is Twilio's "media" message with the stream, the track and the number that are expected, canonical base64, and
credit left. See antiphon/server/lane.py for who uses it, and tests/server/test_lane.py for the proof that a line
with it and one without it hear, count and answer the same.

Linux only (epoll). One thread: the event loop's.
*/

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES 65536  /* one read of one socket */
#define MAX_MESSAGE 2048  /* a longer text frame is not audio of 20 ms; it goes to Python */
#define MAX_HEAD 14
#define MAX_AUDIO 1024    /* of one message */
#define MAX_PIECE 1024
#define MAX_STREAM 64
#define MAX_EVENTS 64 /* read at once: others have something to do, too */

typedef struct Slot Slot;

typedef struct {
    PyObject_HEAD
    int epoll;
    Py_ssize_t joined, many;
    Slot **by_fd; /* who joined last with this number: a closed one may be taken by another connection */
    int fds;
    char is_polling;
    uint8_t data[MAX_HEAD + MAX_MESSAGE + READ_BYTES];
} Lane;

struct Slot {
    PyObject_HEAD
    Lane *lane;
    PyObject *owner;
    PyObject *sink; /* NULL: not armed */
    int fd;         /* -1: it left */
    char is_fragmented;
    uint64_t passing; /* bytes of a frame whose beginning was handed on */
    uint64_t expected;
    int64_t credit;
    int64_t cost;
    int64_t messages;
    int64_t audio_bytes;
    int64_t given; /* bytes of audio, to the sink */
    int piece;
    int stream_len;
    int audio_len;
    int rest_len;
    uint8_t *rest; /* the beginning of a frame that is not yet complete */
    char stream[MAX_STREAM];
    uint8_t audio[MAX_PIECE + MAX_AUDIO];
};

static PyObject *str_on_audio, *str_pass_on, *str_at_end, *str_failed;

/* -- one message ------------------------------------------------------------------------------------------------- */

typedef struct {
    const uint8_t *at, *end;
} Text;

static int8_t BASE64[256];

static void space(Text *t)
{
    while (t->at < t->end && (*t->at == ' ' || *t->at == '\n' || *t->at == '\r' || *t->at == '\t'))
        t->at++;
}

static int one(Text *t, uint8_t c)
{
    space(t);
    if (t->at >= t->end || *t->at != c)
        return 0;
    t->at++;
    return 1;
}

/* A string of plain ASCII without escapes. */
static int string(Text *t, const uint8_t **from, Py_ssize_t *len)
{
    if (!one(t, '"'))
        return 0;
    const uint8_t *p = t->at;
    while (p < t->end && *p != '"') {
        if (*p < 0x20 || *p >= 0x7f || *p == '\\')
            return 0;
        p++;
    }
    if (p >= t->end)
        return 0;
    *from = t->at;
    *len = p - t->at;
    t->at = p + 1;
    return 1;
}

/* A value that nobody asks for: a string or a whole number. */
static int any(Text *t)
{
    const uint8_t *from;
    Py_ssize_t len;
    space(t);
    if (t->at < t->end && *t->at == '"')
        return string(t, &from, &len);
    from = t->at;
    while (t->at < t->end && *t->at >= '0' && *t->at <= '9')
        t->at++;
    len = t->at - from;
    return len == 1 || (len > 1 && len < 19 && *from != '0');
}

static int is(const uint8_t *from, Py_ssize_t len, const char *word, size_t size)
{
    return (size_t)len == size && memcmp(from, word, size) == 0;
}
#define IS(from, len, word) is(from, len, word, sizeof(word) - 1)

static int number(const uint8_t *from, Py_ssize_t len, uint64_t *value)
{
    if (len < 1 || len > 18 || *from == '0')
        return 0;
    uint64_t n = 0;
    for (Py_ssize_t i = 0; i < len; i++) {
        if (from[i] < '0' || from[i] > '9')
            return 0;
        n = n * 10 + (from[i] - '0');
    }
    *value = n;
    return 1;
}

/* A string of canonical base64 (RFC 4648, section 4). Returns the number of bytes, -1 if it is not. */
static int base64(Text *t, uint8_t *to, int room)
{
    if (!one(t, '"'))
        return -1;
    const uint8_t *p = t->at;
    uint8_t *out = to, *last = to + room - 3;
    int a, b, c, d;
    for (; t->end - p > 4; p += 4, out += 3) {
        a = BASE64[p[0]], b = BASE64[p[1]], c = BASE64[p[2]], d = BASE64[p[3]];
        if ((a | b | c | d) < 0)
            break;
        if (out > last)
            return -1;
        out[0] = (uint8_t)(a << 2 | b >> 4);
        out[1] = (uint8_t)(b << 4 | c >> 2);
        out[2] = (uint8_t)(c << 6 | d);
    }
    if (t->end - p > 4 && *p != '"') {
        a = BASE64[p[0]], b = BASE64[p[1]], c = p[2] == '=' ? 0 : BASE64[p[2]];
        int two = p[2] != '=';
        if ((a | b | c) < 0 || p[3] != '=' || (two ? c & 3 : b & 15) || out > last)
            return -1;
        *out++ = (uint8_t)(a << 2 | b >> 4);
        if (two)
            *out++ = (uint8_t)(b << 4 | c >> 2);
        p += 4;
    }
    if (p >= t->end || *p != '"')
        return -1;
    t->at = p + 1;
    return (int)(out - to);
}

enum { EVENT = 1, SEQUENCE = 2, STREAM = 4, MEDIA = 8, TRACK = 16, PAYLOAD = 32 };

/* A member that comes twice is left to Python. */
static int first(int *seen, int which)
{
    if (*seen & which)
        return 0;
    *seen |= which;
    return 1;
}

/* The object "media": how many bytes of inbound audio are in it (they are then at `to`), or -1. */
static int chunk(Text *t, uint8_t *to)
{
    const uint8_t *key, *value;
    Py_ssize_t key_len, len;
    int seen = 0, audio = -1;
    if (!one(t, '{'))
        return -1;
    do {
        if (!string(t, &key, &key_len) || !one(t, ':'))
            return -1;
        if (IS(key, key_len, "payload")) {
            if (!first(&seen, PAYLOAD) || (audio = base64(t, to, MAX_AUDIO)) < 0)
                return -1;
        } else if (IS(key, key_len, "track")) {
            if (!first(&seen, TRACK) || !string(t, &value, &len) || !IS(value, len, "inbound"))
                return -1;
        } else if (!any(t)) {
            return -1;
        }
    } while (one(t, ','));
    return one(t, '}') ? audio : -1;
}

/* 1 if the text was the audio that is due, and was taken. */
static int take(Slot *slot, const uint8_t *from, Py_ssize_t size)
{
    Text t = {from, from + size};
    const uint8_t *key, *value;
    Py_ssize_t key_len, len;
    uint64_t sequence = 0;
    int seen = 0, audio = -1;
    if (!one(&t, '{'))
        return 0;
    do {
        if (!string(&t, &key, &key_len) || !one(&t, ':'))
            return 0;
        if (IS(key, key_len, "event")) {
            if (!first(&seen, EVENT) || !string(&t, &value, &len) || !IS(value, len, "media"))
                return 0;
        } else if (IS(key, key_len, "sequenceNumber")) {
            if (!first(&seen, SEQUENCE) || !string(&t, &value, &len) || !number(value, len, &sequence))
                return 0;
        } else if (IS(key, key_len, "streamSid")) {
            if (!first(&seen, STREAM) || !string(&t, &value, &len) ||
                !is(value, len, slot->stream, (size_t)slot->stream_len))
                return 0;
        } else if (IS(key, key_len, "media")) {
            if (!first(&seen, MEDIA) || (audio = chunk(&t, slot->audio + slot->audio_len)) < 0)
                return 0;
        } else if (!any(&t)) {
            return 0;
        }
    } while (one(&t, ','));
    if (!one(&t, '}'))
        return 0;
    space(&t);
    if (t.at != t.end || seen != (EVENT | SEQUENCE | STREAM | MEDIA) || sequence != slot->expected)
        return 0;
    if (slot->credit < audio + slot->cost)
        return 0;
    slot->audio_len += audio;
    slot->credit -= audio + slot->cost;
    slot->expected++;
    slot->messages++;
    slot->audio_bytes += audio;
    return 1;
}

/* -- telling Python ---------------------------------------------------------------------------------------------- */

/* Something raised: the owner is told, who ends the connection. */
static void failed(Slot *slot)
{
    PyObject *type, *error, *trace;
    PyErr_Fetch(&type, &error, &trace);
    PyErr_NormalizeException(&type, &error, &trace);
    if (trace != NULL)
        PyException_SetTraceback(error, trace);
    PyObject *owner = slot->owner, *told = NULL;
    if (owner != NULL) {
        Py_INCREF(owner);
        told = PyObject_CallMethodOneArg(owner, str_failed, error);
        if (told == NULL)
            PyErr_WriteUnraisable(owner);
        Py_DECREF(owner);
    } else { /* it left meanwhile */
        PyErr_Restore(type, error, trace);
        PyErr_WriteUnraisable(NULL);
        return;
    }
    Py_XDECREF(told);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(trace);
}

static void call(Slot *slot, PyObject *target, PyObject *name, const uint8_t *from, Py_ssize_t size)
{
    PyObject *data = PyBytes_FromStringAndSize((const char *)from, size), *done = NULL;
    if (data != NULL && target != NULL) {
        Py_INCREF(target); /* it may leave the slot meanwhile */
        done = PyObject_CallMethodOneArg(target, name, data);
        Py_DECREF(target);
    }
    Py_XDECREF(data);
    if (done == NULL && PyErr_Occurred())
        failed(slot);
    Py_XDECREF(done);
}

/* What there is in a lane with few sockets; in one with many, up to the last whole piece since the call began. */
static void deliver(Slot *slot)
{
    uint8_t piece[MAX_PIECE + MAX_AUDIO];
    int64_t all = slot->given + slot->audio_len;
    int whole = slot->audio_len - (slot->lane->joined < slot->lane->many ? 0 : (int)(all % slot->piece));
    if (whole <= 0)
        return;
    memcpy(piece, slot->audio, whole);
    slot->audio_len -= whole;
    slot->given += whole;
    memmove(slot->audio, slot->audio + whole, slot->audio_len);
    call(slot, slot->sink, str_on_audio, piece, whole);
}

/* -- one socket -------------------------------------------------------------------------------------------------- */

static void unmask(uint8_t *data, Py_ssize_t size, const uint8_t *mask)
{
    uint64_t wide, eight;
    memcpy(&wide, mask, 4);
    memcpy((uint8_t *)&wide + 4, mask, 4);
    Py_ssize_t i = 0;
    for (; i + 8 <= size; i += 8) {
        memcpy(&eight, data + i, 8);
        eight ^= wide;
        memcpy(data + i, &eight, 8);
    }
    for (; i < size; i++)
        data[i] ^= mask[i & 3];
}

static int keep(Slot *slot, const uint8_t *from, Py_ssize_t size)
{
    if (slot->rest == NULL && (slot->rest = PyMem_Malloc(MAX_HEAD + MAX_MESSAGE)) == NULL) {
        PyErr_NoMemory();
        return 0;
    }
    memcpy(slot->rest, from, size);
    slot->rest_len = (int)size;
    return 1;
}

/* The frames in [at, end): takes what it is sure of, hands on the rest, keeps what is not complete. */
static void frames(Slot *slot, uint8_t *at, uint8_t *end)
{
    while (at < end && slot->fd >= 0) {
        if (slot->passing) {
            Py_ssize_t more = (uint64_t)(end - at) < slot->passing ? end - at : (Py_ssize_t)slot->passing;
            slot->passing -= more;
            call(slot, slot->owner, str_pass_on, at, more);
            at += more;
            continue;
        }
        Py_ssize_t here = end - at;
        int len7 = here > 1 ? at[1] & 0x7f : 0;
        int head = 2 + (len7 == 126 ? 2 : len7 == 127 ? 8 : 0) + (here > 1 && at[1] & 0x80 ? 4 : 0);
        if (here < head) {
            if (!keep(slot, at, here))
                failed(slot);
            return;
        }
        uint64_t size = len7;
        if (len7 == 126) {
            size = (uint64_t)at[2] << 8 | at[3];
        } else if (len7 == 127) {
            size = 0;
            for (int i = 2; i < 10; i++)
                size = size << 8 | at[i];
        }
        int may_be_audio = at[0] == 0x81 && at[1] & 0x80 && slot->sink && !slot->is_fragmented && size <= MAX_MESSAGE;
        if (may_be_audio) {
            if ((uint64_t)here < head + size) {
                if (!keep(slot, at, here))
                    failed(slot);
                return;
            }
            uint8_t *mask = at + head - 4;
            unmask(at + head, size, mask);
            if (take(slot, at + head, size)) {
                at += head + size;
                deliver(slot);
                continue;
            }
            unmask(at + head, size, mask);
        }
        if ((at[0] & 0x0f) < 3)
            slot->is_fragmented = !(at[0] & 0x80);
        uint64_t total = size > UINT64_MAX - head ? UINT64_MAX : head + size;
        slot->passing = total;
    }
}

static void at_end(Slot *slot)
{
    PyObject *owner = Py_NewRef(slot->owner), *done = PyObject_CallMethodNoArgs(owner, str_at_end);
    if (done == NULL)
        failed(slot);
    Py_XDECREF(done);
    Py_DECREF(owner);
}

static void ready(Lane *lane, Slot *slot)
{
    uint8_t *data = lane->data;
    ssize_t got = recv(slot->fd, data + slot->rest_len, READ_BYTES, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOMEM || errno == ENOBUFS))
        return; /* it is ready again in the next round */
    if (got <= 0) {
        at_end(slot);
        return;
    }
    int before = slot->rest_len;
    if (before) {
        memcpy(data, slot->rest, before);
        slot->rest_len = 0;
    }
    frames(slot, data, data + before + got);
    if (slot->rest != NULL && !slot->rest_len) {
        PyMem_Free(slot->rest);
        slot->rest = NULL;
    }
}

/* -- Slot -------------------------------------------------------------------------------------------------------- */

PyDoc_STRVAR(arm_doc,
"arm(sink, stream, expected, credit, piece)\n--\n\n"
"From now on the audio of this stream (bytes; more than 64 are never armed) goes to sink.on_audio(bytes), from the\n"
"message numbered expected on, for as long as their numbers follow one another and credit (bytes) lasts. piece: bytes\n"
"that the sink gets at once where sockets are many, or a multiple (1 to 1024). Raises ValueError.");

static PyObject *slot_arm(Slot *self, PyObject *args)
{
    PyObject *sink;
    const char *stream;
    Py_ssize_t len;
    long long expected, credit;
    int piece;
    if (!PyArg_ParseTuple(args, "Oy#LLi:arm", &sink, &stream, &len, &expected, &credit, &piece))
        return NULL;
    if (piece < 1 || piece > MAX_PIECE)
        return PyErr_Format(PyExc_ValueError, "a piece of %d bytes: give 1 to %d", piece, MAX_PIECE);
    if (self->fd >= 0 && len <= MAX_STREAM && expected > 0) {
        memcpy(self->stream, stream, len);
        self->stream_len = (int)len;
        self->expected = (uint64_t)expected;
        self->credit = credit;
        self->piece = piece;
        Py_XSETREF(self->sink, Py_NewRef(sink));
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(disarm_doc, "disarm()\n--\n\nFrom now on everything is handed on.");

static PyObject *slot_disarm(Slot *self, PyObject *Py_UNUSED(none))
{
    Py_CLEAR(self->sink);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(take_doc,
"take()\n--\n\nHow many messages, and bytes of audio, were taken since it was asked last.");

static PyObject *slot_take(Slot *self, PyObject *Py_UNUSED(none))
{
    PyObject *counts = Py_BuildValue("LL", (long long)self->messages, (long long)self->audio_bytes);
    if (counts != NULL)
        self->messages = self->audio_bytes = 0;
    return counts;
}

PyDoc_STRVAR(pending_doc,
"pending()\n--\n\nThe audio that was taken and makes no whole piece yet; it is given away.");

static PyObject *slot_pending(Slot *self, PyObject *Py_UNUSED(none))
{
    PyObject *audio = PyBytes_FromStringAndSize((const char *)self->audio, self->audio_len);
    if (audio != NULL) {
        self->given += self->audio_len;
        self->audio_len = 0;
    }
    return audio;
}

PyDoc_STRVAR(leave_doc,
"leave()\n--\n\nReads this socket no more. To be called before it is closed; may be called twice.");

static void leave(Slot *self)
{
    Lane *lane = self->lane;
    int fd = self->fd;
    if (fd < 0)
        return;
    self->fd = -1;
    if (lane->by_fd[fd] == self) {
        lane->by_fd[fd] = NULL;
        if (lane->epoll >= 0)
            epoll_ctl(lane->epoll, EPOLL_CTL_DEL, fd, NULL);
    }
    lane->joined--;
    Py_CLEAR(self->sink);
    Py_CLEAR(self->owner);
    Py_DECREF(self); /* the lane's own */
}

static PyObject *slot_leave(Slot *self, PyObject *Py_UNUSED(none))
{
    leave(self);
    Py_RETURN_NONE;
}

static int slot_traverse(Slot *self, visitproc visit, void *arg)
{
    Py_VISIT(self->lane);
    Py_VISIT(self->owner);
    Py_VISIT(self->sink);
    return 0;
}

static int slot_clear(Slot *self)
{
    Py_CLEAR(self->owner);
    Py_CLEAR(self->sink);
    return 0;
}

static void slot_dealloc(Slot *self)
{
    PyObject_GC_UnTrack(self);
    slot_clear(self);
    Py_CLEAR(self->lane);
    PyMem_Free(self->rest);
    PyObject_GC_Del(self);
}

static PyMethodDef slot_methods[] = {
    {"arm", (PyCFunction)slot_arm, METH_VARARGS, arm_doc},
    {"disarm", (PyCFunction)slot_disarm, METH_NOARGS, disarm_doc},
    {"take", (PyCFunction)slot_take, METH_NOARGS, take_doc},
    {"pending", (PyCFunction)slot_pending, METH_NOARGS, pending_doc},
    {"leave", (PyCFunction)slot_leave, METH_NOARGS, leave_doc},
    {NULL},
};

static PyTypeObject SlotType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "antiphon.lane._native.Slot",
    .tp_doc = "One socket's place in a lane.",
    .tp_basicsize = sizeof(Slot),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = (destructor)slot_dealloc,
    .tp_traverse = (traverseproc)slot_traverse,
    .tp_clear = (inquiry)slot_clear,
    .tp_methods = slot_methods,
};

/* -- Lane -------------------------------------------------------------------------------------------------------- */

PyDoc_STRVAR(lane_doc,
"Lane(many)\n--\n\nAll sockets that are read together. Where they are many, a sink gets whole pieces, else its audio as it\n"
"comes. Raises OSError where the system has no file descriptor left.");

static PyObject *lane_new(PyTypeObject *type, PyObject *args, PyObject *named)
{
    Py_ssize_t many;
    static char *names[] = {"many", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, named, "n:Lane", names, &many))
        return NULL;
    Lane *self = (Lane *)type->tp_alloc(type, 0);
    if (self != NULL)
        self->many = many;
    if (self != NULL && (self->epoll = epoll_create1(EPOLL_CLOEXEC)) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

PyDoc_STRVAR(join_doc,
"join(fd, owner, cost)\n--\n\n"
"Reads the socket from now on; nobody else may, until its slot left. It must stand at the beginning of a frame.\n"
"owner.pass_on(bytes) gets what is not taken, owner.at_end() is called if no more can be read, owner.failed(error) if\n"
"one of these or a sink raised. cost: what a message takes from the credit besides its audio, in bytes. Raises OSError,\n"
"ValueError.");

static PyObject *lane_join(Lane *self, PyObject *args)
{
    int fd;
    long long cost;
    PyObject *owner;
    if (!PyArg_ParseTuple(args, "iOL:join", &fd, &owner, &cost))
        return NULL;
    if (fd < 0 || cost < 0)
        return PyErr_Format(PyExc_ValueError, "join(%d, ...): give an open socket and a cost of 0 or more", fd);
    if (fd >= self->fds) {
        int fds = fd + 64;
        Slot **by_fd = PyMem_Realloc(self->by_fd, fds * sizeof(Slot *));
        if (by_fd == NULL)
            return PyErr_NoMemory();
        memset(by_fd + self->fds, 0, (fds - self->fds) * sizeof(Slot *));
        self->by_fd = by_fd;
        self->fds = fds;
    }
    Slot *slot = PyObject_GC_New(Slot, &SlotType);
    if (slot == NULL)
        return NULL;
    memset((char *)slot + sizeof(PyObject), 0, sizeof(Slot) - sizeof(PyObject));
    slot->fd = -1;
    slot->piece = 1;
    slot->cost = cost;
    slot->lane = (Lane *)Py_NewRef(self);
    PyObject_GC_Track(slot);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = slot};
    if (epoll_ctl(self->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
        Py_DECREF(slot);
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    slot->fd = fd;
    slot->owner = Py_NewRef(owner);
    self->by_fd[fd] = slot;
    self->joined++;
    return Py_NewRef(slot); /* two references: the caller's and the lane's */
}

PyDoc_STRVAR(poll_doc,
"poll()\n--\n\nReads up to 64 sockets, without waiting; True: more may be ready. For the event loop, when fileno() is readable.");

static PyObject *lane_poll(Lane *self, PyObject *Py_UNUSED(none))
{
    struct epoll_event events[MAX_EVENTS];
    if (self->is_polling)
        Py_RETURN_FALSE; /* its buffer is in use */
    int count = epoll_wait(self->epoll, events, MAX_EVENTS, 0);
    if (count < 0 && errno != EINTR)
        return PyErr_SetFromErrno(PyExc_OSError);
    for (int i = 0; i < count; i++)
        Py_INCREF(events[i].data.ptr); /* what one of them causes may let go of another */
    self->is_polling = 1;
    for (int i = 0; i < count; i++) {
        Slot *slot = events[i].data.ptr;
        if (slot->fd >= 0)
            ready(self, slot);
        Py_DECREF(slot);
    }
    self->is_polling = 0;
    return PyBool_FromLong(count == MAX_EVENTS);
}

PyDoc_STRVAR(fileno_doc, "fileno()\n--\n\nReadable when one of the sockets is.");

static PyObject *lane_fileno(Lane *self, PyObject *Py_UNUSED(none))
{
    return PyLong_FromLong(self->epoll);
}

PyDoc_STRVAR(close_doc, "close()\n--\n\nEvery socket leaves, and the lane can read none again.");

static void lane_shut(Lane *self)
{
    for (int fd = 0; fd < self->fds; fd++)
        if (self->by_fd[fd] != NULL)
            leave(self->by_fd[fd]);
    if (self->epoll >= 0)
        close(self->epoll);
    self->epoll = -1;
}

static PyObject *lane_close(Lane *self, PyObject *Py_UNUSED(none))
{
    lane_shut(self);
    Py_RETURN_NONE;
}

static Py_ssize_t lane_len(Lane *self)
{
    return self->joined;
}

static void lane_dealloc(Lane *self)
{
    lane_shut(self);
    PyMem_Free(self->by_fd);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef lane_methods[] = {
    {"join", (PyCFunction)lane_join, METH_VARARGS, join_doc},
    {"poll", (PyCFunction)lane_poll, METH_NOARGS, poll_doc},
    {"fileno", (PyCFunction)lane_fileno, METH_NOARGS, fileno_doc},
    {"close", (PyCFunction)lane_close, METH_NOARGS, close_doc},
    {NULL},
};

static PySequenceMethods lane_sequence = {.sq_length = (lenfunc)lane_len};

static PyTypeObject LaneType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "antiphon.lane._native.Lane",
    .tp_doc = lane_doc,
    .tp_basicsize = sizeof(Lane),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = lane_new,
    .tp_dealloc = (destructor)lane_dealloc,
    .tp_methods = lane_methods,
    .tp_as_sequence = &lane_sequence,
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "antiphon.lane._native",
    .m_doc = "Reads media sockets in C; optional. See antiphon/server/lane.py.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit__native(void)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    memset(BASE64, -1, sizeof(BASE64));
    for (int i = 0; i < 64; i++)
        BASE64[(uint8_t)letters[i]] = (int8_t)i;
    if (!(str_on_audio = PyUnicode_InternFromString("on_audio")) ||
        !(str_pass_on = PyUnicode_InternFromString("pass_on")) ||
        !(str_at_end = PyUnicode_InternFromString("at_end")) ||
        !(str_failed = PyUnicode_InternFromString("failed")))
        return NULL;
    if (PyType_Ready(&SlotType) < 0 || PyType_Ready(&LaneType) < 0)
        return NULL;
    PyObject *made = PyModule_Create(&module);
    if (made != NULL && (PyModule_AddObjectRef(made, "Lane", (PyObject *)&LaneType) < 0 ||
                         PyModule_AddObjectRef(made, "Slot", (PyObject *)&SlotType) < 0))
        Py_CLEAR(made);
    return made;
}
