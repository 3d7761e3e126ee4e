FROM a
  RUN one && \   
# a comment
    # another
  two	\

   \\
ENV a=b \
    # c
    c="d \
e" f=\
g
RUN \
RUN x # not a comment
# comment \
CMD x \
