"""nameko-grpc's HTTP/2 server, woken instead of polled, and bounded.

nameko-grpc looks every 10 ms whether there is something to send, which is the least that a call takes.
Here whoever puts something into a stream wakes its connection. What clients can make this process keep,
or do for nothing, is bounded: `limits` tells how. What is wrong with one call ends that call alone, what
is wrong with a connection ends that connection alone.
"""
