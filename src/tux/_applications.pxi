# SPDX-License-Identifier: MIT
# What _engine.pyx has of applications: a part of that file, which would be too long with it.


cdef int _check(int result) except -1:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


cdef int _add_app(tux_engine *engine, uint32_t queue, uint64_t queue_timeout_ms, bint accel,
                  int64_t sendfile_root, bint hands_on_404) except -1:
    cdef tux_app_config config
    config.queue = queue
    config.queue_timeout_ms = queue_timeout_ms
    config.accel = accel
    config.sendfile_root = sendfile_root
    config.hands_on_404 = hands_on_404
    return _check(tux_engine_app(engine, &config))


cdef int _link_app(tux_engine *engine, uint32_t app, uint64_t serial, tuple descriptors) except -1:
    cdef tux_app_link_config config
    config.app = app
    config.serial = serial
    config.requests_fd, config.answers_fd, config.process_wake_fd, config.wake_fd, config.side_fd = descriptors
    return _check(tux_engine_link_app(engine, &config))
