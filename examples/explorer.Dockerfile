# The explorer as a demonstration for others: docker build -f examples/explorer.Dockerfile -t explorer .
# then docker run -p 8737:8737 explorer, and open the address that it prints, with the host's name in it.
FROM python:3.12-slim
WORKDIR /app
COPY . .
RUN pip install --no-cache-dir '.[explore]' && useradd --create-home visitor
USER visitor
EXPOSE 8737
CMD ["crate", "explore", "--host", "0.0.0.0", "--port", "8737", "--no-browser"]
