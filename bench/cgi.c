/* SPDX-License-Identifier: MIT */
/* cgi: the least CGI program, linked statically. What is measured with it is how fast a server starts programs. */
#include <string.h>
#include <unistd.h>

int main(void)
{
    static const char answer[] = "Content-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!";
    return write(STDOUT_FILENO, answer, strlen(answer)) < 0;
}
