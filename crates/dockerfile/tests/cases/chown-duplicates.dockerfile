FROM a
WORKDIR /app
COPY . .
RUN npm ci && chown -R node:node /app
RUN chown node /app; chown -R node /other; chown -R node "$HOME"; chmod -R u+x /
ADD x.tar data/
RUN chgrp --recursive www ./data
RUN chmod -R 755 $X data
FROM b
COPY x rel/
RUN chown -R 1:1 rel
# check=skip=ChownDuplicatesCopy
RUN chown -R 1:1 /rel
